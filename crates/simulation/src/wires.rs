//! What travels between sites: dialling, messages that wait for cut lines, and connections that end.

use std::collections::BTreeMap;

use bruri_replication::engine::io::{Input, LinkError, LinkId, SubscriptionId, SupplyId};

use crate::{
    names,
    network::{Connection, GIVEN_UP_MICROS, Message, wire_bytes},
    world::{What, World},
};

impl World {
    pub(crate) fn heal(&mut self) {
        let cut: Vec<_> = self.lines.cut.iter().copied().collect();
        for (from, to) in cut {
            self.mend(from, to);
        }
        self.lines.slow.clear();
        for site in &mut self.sites {
            site.stalled_until = 0;
        }
    }

    pub(crate) fn is_cut(&self, from: usize, to: usize) -> bool {
        self.lines.cut.contains(&(from, to))
    }

    pub(crate) fn dialled(&mut self, number: usize, incarnation: u64, link: LinkId) {
        let place = usize::try_from(link.0).unwrap_or(usize::MAX);
        let Some(peer) = self.sites.get(number).and_then(|site| site.peers.get(place)).copied()
        else {
            return;
        };
        if self.alive(number, incarnation).is_none() {
            return;
        }
        let cut = self.is_cut(number, peer) || self.is_cut(peer, number);
        let down = self.sites.get(peer).is_none_or(|peer| peer.process.is_none());
        if cut || down {
            let error = LinkError { text: "no answer".to_owned(), needs_a_person: false };
            let takes = if cut { 3_000_000 } else { 1000 };
            let input = Input::Unreachable { link, error };
            return self.after(takes, What::Input { site: number, incarnation, input });
        }
        self.numbered += 1;
        let id = self.numbered;
        let (streams, wanted) = (BTreeMap::new(), BTreeMap::new());
        let connection =
            Connection { client: number, link, server: peer, streams, stuck_since: None, wanted };
        self.connections.insert(id, connection);
        let site = names::site(peer);
        if let Some(process) = self.alive(number, incarnation) {
            process.connections.insert(link, id);
        }
        self.input(number, incarnation, Input::Reached { link, site });
    }

    pub(crate) fn send(
        &mut self,
        id: u64,
        subscription: SubscriptionId,
        to_client: bool,
        message: Message,
    ) {
        let (now, delay) = (self.now, self.delay());
        let Some(connection) = self.connections.get_mut(&id) else { return };
        if let Some(traffic) = &mut self.traffic {
            let (sender, _) = connection.line(to_client);
            traffic[sender] += wire_bytes(&message);
        }
        let slow = self.lines.slow.contains(&connection.line(to_client));
        let server = connection.server;
        let Some(stream) = connection.streams.get_mut(&subscription) else { return };
        let is_event = matches!(message, Message::Event(_));
        let left = stream.push(to_client, message, now, slow).saturating_sub(now);
        if let Some(supply) = stream.supply.filter(|_| to_client && is_event) {
            let incarnation = self.sites.get(server).map_or(0, |site| site.incarnation);
            let input = Input::Flushed(supply);
            self.after(left, What::Input { site: server, incarnation, input });
        }
        self.after(left + delay, What::Deliver { connection: id, subscription, to_client });
    }

    pub(crate) fn deliver(&mut self, id: u64, subscription: SubscriptionId, to_client: bool) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let (from, to) = connection.line(to_client);
        if self.lines.cut.contains(&(from, to)) {
            if connection.stuck_since.is_none() {
                connection.stuck_since = Some(self.now);
                self.after(GIVEN_UP_MICROS, What::GiveUp { connection: id });
            }
            // It waits; mending the line delivers it.
            return;
        }
        let Some(stream) = connection.streams.get_mut(&subscription) else { return };
        let Some(message) = stream.pop(to_client) else { return };
        let supply = stream.supply;
        let input = match message {
            Message::Open => {
                self.accept(id, subscription);
                return;
            }
            Message::Ask(ask) => supply.map(|supply| Input::Asked { supply, ask }),
            Message::Event(event) => Some(Input::Heard { subscription, event }),
            Message::End(error) if to_client => Some(Input::Ended { subscription, error }),
            Message::End(_) => supply.map(Input::Left),
        };
        if let Some(input) = input {
            self.input_now(to, input);
        }
    }

    pub(crate) fn accept(&mut self, id: u64, subscription: SubscriptionId) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let (client, server) = (connection.client, connection.server);
        let Some(process) = self.sites.get_mut(server).and_then(|site| site.process.as_mut())
        else {
            return;
        };
        process.supplied += 1;
        let supply = SupplyId(process.supplied);
        process.supplies.insert(supply, (id, subscription));
        if let Some(stream) = connection.streams.get_mut(&subscription) {
            stream.supply = Some(supply);
        }
        self.input_now(server, Input::Opened { supply, peer: names::site(client) });
    }

    pub(crate) fn unsubscribe(&mut self, site: usize, subscription: SubscriptionId) {
        let Some(id) = self.connection_of(site, subscription) else { return };
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let server = connection.server;
        let stream = connection.streams.remove(&subscription);
        connection.wanted.remove(&subscription);
        if let Some(supply) = stream.and_then(|stream| stream.supply) {
            let incarnation = self.sites.get(server).map_or(0, |site| site.incarnation);
            let delay = self.delay();
            let input = Input::Left(supply);
            self.after(delay, What::Input { site: server, incarnation, input });
        }
    }

    pub(crate) fn give_up(&mut self, id: u64) {
        if self.connections.get(&id).is_some_and(|connection| connection.stuck_since.is_some()) {
            self.close(id);
        }
    }

    pub(crate) fn close(&mut self, id: u64) {
        self.close_but(id, None);
    }

    /// A connection is over; each end hears of it, but the one who ended it.
    pub(crate) fn close_but(&mut self, id: u64, knows: Option<usize>) {
        let Some(connection) = self.connections.remove(&id) else { return };
        let Connection { client, link, server, streams, .. } = connection;
        for (subscription, stream) in streams {
            if knows != Some(client) {
                let error = LinkError { text: "it broke".to_owned(), needs_a_person: false };
                self.tell_soon(client, Input::Ended { subscription, error });
            }
            if let Some(supply) = stream.supply.filter(|_| knows != Some(server)) {
                self.tell_soon(server, Input::Left(supply));
            }
        }
        let process = self.sites.get_mut(client).and_then(|site| site.process.as_mut());
        if let Some(process) = process {
            process.connections.retain(|of, connection| *of != link || *connection != id);
        }
    }

    pub(crate) fn tell_soon(&mut self, site: usize, input: Input) {
        let incarnation = self.sites.get(site).map_or(0, |site| site.incarnation);
        self.after(500, What::Input { site, incarnation, input });
    }

    /// Mends a line: what waited for it is delivered.
    pub(crate) fn mend(&mut self, from: usize, to: usize) {
        if !self.lines.cut.remove(&(from, to)) {
            return;
        }
        let mut waiting = Vec::new();
        for (id, connection) in &mut self.connections {
            if connection.line(true) != (from, to) && connection.line(false) != (from, to) {
                continue;
            }
            connection.stuck_since = None;
            let to_client = connection.line(true) == (from, to);
            for (subscription, stream) in &connection.streams {
                let count = stream.waiting()[usize::from(to_client)];
                waiting.extend(std::iter::repeat_n((*id, *subscription, to_client), count));
            }
        }
        for (connection, subscription, to_client) in waiting {
            let delay = self.delay();
            self.after(delay, What::Deliver { connection, subscription, to_client });
        }
    }
}
