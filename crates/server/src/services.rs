//! The services of a site: store, edge, replication and operators, joined and started as tasks.

use std::{net::UdpSocket, path::Path, sync::Arc, time::Duration};

use anyhow::Context as _;
use bruri_domain::Clock as _;
use bruri_edge::{Alone, Edge, Peers};
use bruri_ops::{About, Inviter, Ops, Socket};
use bruri_replication::{
    PeerState, PeerStatus, Replication,
    tls::{Tls, TlsFiles},
};
use bruri_store::{
    Lookup, Store, StoreError,
    committer::{Commits, Committer},
    lookup::Reader,
};
use bruri_wire::proto::site::v1 as proto;
use sqlx::PgPool;
use tokio::{net::TcpListener, sync::watch};

use crate::{
    clock::SystemClock, config::Config, deployment_key, lifecycle::Tasks, listen,
    membership::Members, peers::Replicating, proof, retention,
};

/// What was committed, beside the database: see the store's `witness.rs`.
const WITNESS_FILE: &str = "witness";
const RELEASE: &str = env!("CARGO_PKG_VERSION");
/// Tasks that answer look-ups: while one waits for the database the other gathers the next group.
const READERS: usize = 2;
/// How often other processes' commits are looked for where the database may have several `brurid`.
const SHARED_POLL: Duration = Duration::from_millis(25);
/// The same with the private database, which serves this process only: in case a wakeup was lost.
const PRIVATE_POLL: Duration = Duration::from_secs(1);

/// Every listener of the site but that of metrics, bound before anything is served.
pub(crate) struct Listeners {
    phones: Vec<TcpListener>,
    peers: Option<TcpListener>,
    operators: Socket,
}

impl Listeners {
    pub(crate) async fn bind(config: &Config) -> anyhow::Result<Self> {
        let mut phones = Vec::new();
        for address in &config.edge.http {
            phones.push(listen::bind("edge.http", *address).await?);
        }
        let peers = match (config.replication.listen, &config.replication.tls) {
            (Some(address), Some(_)) => Some(listen::bind("replication.listen", address).await?),
            _ => None,
        };
        let operators =
            Socket::bind(&config.ops.socket).await.context("open the operators' socket")?;
        Ok(Self { phones, peers, operators })
    }
}

/// Reads what TLS between sites needs, if it is configured, and holds it against the site's name.
pub(crate) fn load_tls(config: &Config) -> anyhow::Result<Option<Tls>> {
    let Some(files) = &config.replication.tls else {
        if !config.replication.peers.is_empty() {
            tracing::warn!(
                "replication.peers names other sites, but there are no certificates: nothing is \
                 replicated; see `bruri pki`"
            );
        }
        return Ok(None);
    };
    let files = TlsFiles {
        ca_file: files.ca_file.clone(),
        cert_file: files.cert_file.clone(),
        key_file: files.key_file.clone(),
    };
    let tls = Tls::load(files).context("read the certificates")?;
    let (certified, named) = (&tls.ours().site, &config.site.name);
    anyhow::ensure!(
        certified == named,
        "the certificate is of site {certified}, but site.name is {named}: set site.name = \
         \"{certified}\", or make a certificate with `bruri pki issue {named}`"
    );
    Ok(Some(tls))
}

/// Opens the store with the site's deployment key.
pub(crate) async fn open_store(config: &Config, pool: PgPool) -> anyhow::Result<Store> {
    let path = &config.site.deployment_key_file;
    let found = deployment_key::find(path)?;
    let options = bruri_store::Options {
        site: config.site.name.clone(),
        key: found.key,
        clock: Arc::new(SystemClock),
    };
    match Store::open(pool, options).await {
        Err(StoreError::AnotherKey) if found.is_new => {
            deployment_key::refuse_new(path)?;
            Err(StoreError::AnotherKey.into())
        }
        opened => opened.context("open the store"),
    }
}

/// Has the store keep its witness of commits in the data directory, and hold an older one against the
/// database, before anything is numbered.
pub(crate) async fn keep_witness(
    store: &Store,
    data_dir: &Path,
    tasks: &Tasks,
) -> anyhow::Result<()> {
    let kept = store.keep_witness(&data_dir.join(WITNESS_FILE)).await;
    kept.context("hold the witness of commits against the database")?;
    let (store, stop) = (store.clone(), tasks.stop());
    tasks.spawn("witness", async move {
        store.sync_witness(stop).await;
        Ok(())
    });
    Ok(())
}

/// What the services share.
pub(crate) struct Services {
    store: Store,
    commits: Commits,
    lookup: Lookup,
    replication: Option<Replication>,
    members: Option<Members>,
    deployment: String,
}

impl Services {
    /// Starts what works in the background: the committer, the readers, retention, receipts of erasures, and replication if there
    /// are certificates.
    pub(crate) async fn start(
        config: &Config,
        store: Store,
        tls: Option<Tls>,
        tasks: &Tasks,
    ) -> anyhow::Result<Self> {
        let (commits, committer) = Committer::new(store.clone());
        let writer = committer.writer();
        // All of them end when the edge and the operators' services have dropped their ends.
        tasks.spawn("remembered", async move {
            writer.run().await;
            Ok(())
        });
        tasks.spawn("committer", async move {
            committer.run().await;
            Ok(())
        });
        let (lookup, reader) = Reader::new(store.clone());
        for number in 1..=READERS {
            let reader = reader.clone();
            tasks.spawn(format!("reader {number}"), async move {
                reader.run().await;
                Ok(())
            });
        }
        let (pruned, stop) = (store.clone(), tasks.stop());
        tasks.spawn("retention", async move {
            retention::run(pruned, stop).await;
            Ok(())
        });
        let (realms, stop) = (store.clone(), tasks.stop());
        tasks.spawn("realms", async move {
            realms.keep_realms(stop).await;
            Ok(())
        });
        let deployment = tls.as_ref().map(|tls| tls.ours().deployment.clone()).unwrap_or_default();
        let (mut replication, mut members) = (None, None);
        if let Some(tls) = tls {
            let (started, known) = start_replication(config, &store, tls, tasks).await?;
            (replication, members) = (Some(started), Some(known));
        } else {
            store.wait_for_nobody();
        }
        start_appending(&store, tasks);
        proof::start(&store, replication.as_ref(), tasks);
        Ok(Self { store, commits, lookup, replication, members, deployment })
    }

    /// Serves everyone on the listeners.
    pub(crate) fn serve(
        self,
        listeners: Listeners,
        ready: watch::Receiver<bool>,
        tasks: &Tasks,
    ) -> anyhow::Result<()> {
        if let Some(listener) = listeners.peers {
            self.serve_peers(listener, tasks)?;
        }
        let ops = self.ops();
        tracing::info!(path = %listeners.operators.path().display(), "serving operators");
        let stop = tasks.stop();
        tasks.spawn("ops", async move {
            Ok(bruri_ops::serve_socket(listeners.operators, ops, ready, stop).await?)
        });
        let peers: Arc<dyn Peers> = match &self.replication {
            Some(replication) => Arc::new(Replicating(replication.clone())),
            None => Arc::new(Alone),
        };
        let limits = bruri_edge::Limits::default();
        let edge = Edge::new(
            self.store,
            (self.commits, self.lookup),
            peers,
            (limits, bruri_phonefile::is_suspect),
        );
        for listener in listeners.phones {
            serve_phones(listener, edge.clone(), tasks)?;
        }
        Ok(())
    }

    fn prover(&self) -> proof::Proving {
        let replication = self.replication.clone();
        proof::Proving { store: self.store.clone(), replication }
    }

    fn serve_peers(&self, listener: TcpListener, tasks: &Tasks) -> anyhow::Result<()> {
        let Some(replication) = self.replication.clone() else { return Ok(()) };
        let address = listener.local_addr().context("read the address of the peers' listener")?;
        tracing::info!(%address, deployment = self.deployment, "serving peers");
        let (stop, doors) = (tasks.stop(), self.members.as_ref().map(Members::doors));
        let doors = doors.unwrap_or_default();
        tasks.spawn("supplier", async move { Ok(replication.serve(listener, doors, stop).await?) });
        Ok(())
    }

    fn ops(&self) -> Ops {
        let replication = self.replication.clone();
        let peers = move || {
            let peers = replication.as_ref().map(Replication::peers).unwrap_or_default();
            peers.into_iter().map(peer_message).collect()
        };
        let about = About {
            deployment: self.deployment.clone(),
            release: RELEASE.to_owned(),
            started_micros: SystemClock.now_micros(),
            peers: Box::new(peers),
            prover: Box::new(self.prover()),
            inviter: self.members.clone().map(|members| Box::new(members) as Box<dyn Inviter>),
        };
        Ops { store: self.store.clone(), commits: self.commits.clone(), about: Arc::new(about) }
    }
}

/// Looks for other processes' commits; ends with the stop.
pub(crate) fn poll_changes(store: &Store, is_private: bool, tasks: &Tasks) {
    let (store, stop) = (store.clone(), tasks.stop());
    let interval = if is_private { PRIVATE_POLL } else { SHARED_POLL };
    tasks.spawn("poll", async move {
        store.poll_changes(interval, stop).await;
        Ok(())
    });
}

/// Counts open conflicts for the metrics; ends with the stop.
pub(crate) fn count_conflicts(store: &Store, tasks: &Tasks) {
    let (store, stop) = (store.clone(), tasks.stop());
    tasks.spawn("conflicts", async move {
        store.count_conflicts(stop).await;
        Ok(())
    });
}

/// What these append waits for peers, so it must be known that there are some.
fn start_appending(store: &Store, tasks: &Tasks) {
    let (erasing, stop) = (store.clone(), tasks.stop());
    tasks.spawn("receipts", async move {
        erasing.run_receipts(stop).await;
        Ok(())
    });
    let (reading, stop) = (store.clone(), tasks.stop());
    tasks.spawn("unread", async move {
        reading.keep_reading(RELEASE, stop).await;
        Ok(())
    });
    let (parted, stop) = (store.clone(), tasks.stop());
    tasks.spawn("branches", async move {
        parted.keep_to_staying_branches(stop).await;
        Ok(())
    });
}

async fn start_replication(
    config: &Config,
    store: &Store,
    tls: Tls,
    tasks: &Tasks,
) -> anyhow::Result<(Replication, Members)> {
    // So that one list of all sites does for every site.
    let ours = config.replication.advertise.as_deref();
    let others: Vec<String> =
        config.replication.peers.iter().filter(|p| Some(p.as_str()) != ours).cloned().collect();
    let replication = Replication::new(
        store.clone(),
        tls.clone(),
        &others,
        config.replication.dials.clone(),
        RELEASE,
    )
    .await
    .context("start replication")?;
    replication.snapshot_beyond(config.replication.snapshot_records);
    let members = Members::new(config, store.clone(), replication.clone(), tls);
    // Before the first connection, so that nobody is let in for a moment who was retired.
    members.read(&mut true).await.context("read the membership")?;
    if others.is_empty() && !members.has_others() {
        store.wait_for_nobody();
    } else {
        store.wait_for_peers();
    }
    members.start(tasks);
    let (running, stop) = (replication.clone(), tasks.stop());
    tasks.spawn("replication", async move { Ok(running.run(stop).await?) });
    Ok((replication, members))
}

fn serve_phones(listener: TcpListener, edge: Edge, tasks: &Tasks) -> anyhow::Result<()> {
    let address = listener.local_addr().context("read the address of the phones' listener")?;
    tracing::info!(%address, "serving phones");
    tracing::info!("to point phones here: SET BRURI http://{}/", reachable(address));
    let stop = tasks.stop();
    tasks.spawn(format!("edge {address}"), async move {
        bruri_edge::serve(listener, edge, stop).await;
        Ok(())
    });
    Ok(())
}

/// The address that a phone would use: where we listen on all, that of the interface with the default
/// route.
pub(crate) fn reachable(listening: std::net::SocketAddr) -> std::net::SocketAddr {
    if !listening.ip().is_unspecified() {
        return listening;
    }
    let (any, elsewhere) = if listening.is_ipv6() {
        ("[::]:0", "[2001:db8::1]:9")
    } else {
        ("0.0.0.0:0", "192.0.2.1:9")
    };
    // Connecting a UDP socket sends nothing; it only asks the kernel which address it would send from.
    let chosen = UdpSocket::bind(any).and_then(|socket| {
        socket.connect(elsewhere)?;
        socket.local_addr()
    });
    chosen.map_or(listening, |from| std::net::SocketAddr::new(from.ip(), listening.port()))
}

fn peer_message(status: PeerStatus) -> proto::Peer {
    use proto::peer::State;
    let state = match status.state {
        PeerState::Connecting => State::Connecting,
        PeerState::CatchingUp => State::CatchingUp,
        PeerState::Live => State::Live,
        PeerState::Refused => State::Refused,
    };
    proto::Peer {
        site: status.site.map(|site| site.to_string()).unwrap_or_default(),
        address: status.address,
        state: state.into(),
        last_error: status.last_error,
        last_heard_at: status.last_heard_micros.map(bruri_ops::timestamp),
        lag_records: status.lag_records,
        release: status.release,
    }
}
