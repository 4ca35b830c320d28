//! Every bound on what comes from outside or grows inside, each with its unit (law 9).

/// Digits of an extension.
pub const EXTENSION_DIGITS_MAX: usize = 32;
/// Characters of the tag between `_` and `data.txt`.
pub const TAG_CHARS_MAX: usize = 16;
/// Characters of a site's name.
pub const SITE_NAME_CHARS_MAX: usize = 32;
/// Characters of a realm's id.
pub const REALM_ID_CHARS_MAX: usize = 32;

/// Bytes of a file's body.
pub const FILE_BYTES_MAX: usize = 1024 * 1024;
/// Bytes of an envelope: kind, subject, generation, hash, and room for fields of later releases.
pub const ENVELOPE_BYTES_MAX: usize = 1024;
/// Bytes of a payload: a full context and room for fields of later releases.
pub const PAYLOAD_BYTES_MAX: usize = 64 * 1024;
/// Bytes of a User-Agent that are kept.
pub const USER_AGENT_BYTES_MAX: usize = 256;

/// Bytes of an operator's name.
pub const OPERATOR_BYTES_MAX: usize = 256;

/// Logs that the context of a record names.
pub const CONTEXT_LOGS_MAX: usize = 256;
/// Single dots that the context of a record holds, over all logs: with 256 logs and these a context stays
/// well below [`PAYLOAD_BYTES_MAX`].
pub const CONTEXT_DOTS_MAX: usize = 4096;
/// Logs that a site knows, of all sites and epochs.
pub const LOGS_MAX: usize = 4096;
/// Erasures of one subject that are not lifted: an operator is refused the next one, and a lift names no more.
pub const BARS_MAX: usize = 1024;
/// Records of a file that one statement erases, and files whose subjects one statement notes.
pub const ERASED_RECORDS_MAX: u64 = 1024;
/// Until a log is asked for again that shows an erasure which has not come yet, milliseconds.
pub const ERASURE_WAIT_MILLIS: u64 = 500;
/// Receipts that are given in a row.
pub const RECEIPTS_MAX: u64 = 256;

/// Records in one commit of the edge.
pub const COMMIT_RECORDS_MAX: usize = 128;
/// Bytes of bodies in one commit of the edge, unless a single one is larger.
pub const COMMIT_BYTES_MAX: usize = 1024 * 1024;
/// Backups that wait for the committer.
pub const COMMIT_QUEUE_MAX: usize = 1024;
/// Bytes of bodies that wait for the committer.
pub const COMMIT_QUEUE_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Times that one commit is tried when the database asks for it.
pub const COMMIT_TRIES_MAX: u32 = 5;
/// Files that are looked up by one query.
pub const LOOKUP_FILES_MAX: usize = 64;
/// Look-ups that wait for the reader.
pub const LOOKUP_QUEUE_MAX: usize = 4096;

/// Days for which a site remembers what a phone had seen.
pub const REMEMBERED_DAYS_MAX: u64 = 30;
/// Files and phones of which a site remembers that; beyond, the oldest go first.
pub const REMEMBERED_MAX: u64 = 1_000_000;
/// Entries of those that wait in memory to be written; beyond, new ones are not kept.
pub const REMEMBERED_UNWRITTEN_MAX: usize = 16_384;
/// Entries that are written by one statement.
pub const REMEMBERED_GROUP_MAX: usize = 1024;
/// Milliseconds that entries wait for others, to be written together.
pub const REMEMBERED_WAIT_MILLIS: u64 = 100;

/// Dots that the row of a conflict names; heads beyond are in the history only.
pub const CONFLICT_HEADS_MAX: usize = 256;
/// Conflicts of one file that are kept, the newest.
pub const CONFLICTS_OF_FILE_MAX: u32 = 100;
/// Bytes of bodies in one answer about a conflict; what does not fit is got one by one.
pub const CONFLICT_BODIES_BYTES_MAX: usize = 3 * 1024 * 1024;
/// Versions of a file that retention judges at a time, and whose bodies one transaction drops.
pub const RETENTION_VERSIONS_MAX: u32 = 256;
/// Files in one turn of retention.
pub const RETENTION_FILES_MAX: u32 = 256;
/// So many times as long as a file took retention rests before the next: phones come first.
pub const RETENTION_RESTS: u32 = 3;
/// Bodies that one transaction deletes.
pub const DROPPED_BODIES_MAX: u32 = 256;
/// Bodies that are wanted from peers at a time.
pub const WANTED_BODIES_MAX: u32 = 256;
/// Days for which a realm may keep something otherwise than for ever.
pub const RETENTION_DAYS_MAX: u64 = 36_500;
/// Bytes of what a realm wants, with room for what later releases say.
pub const REALM_SETTINGS_BYTES_MAX: usize = 8 * 1024;
/// Milliseconds between two looks at what realms want, at least.
pub const REALMS_MILLIS: u64 = 500;
/// Seconds after which a job may be taken over from a process that died.
pub const JOB_LEASE_SECONDS: u64 = 60;

/// Records of one page for a peer.
pub const PAGE_RECORDS_MAX: u64 = 512;
/// Bytes of one page for a peer with its bodies, unless a single record is larger.
pub const PAGE_BYTES_MAX: usize = 1024 * 1024;
/// Files of one chunk of a snapshot; its bytes are those of a page, unless a single file is larger.
pub const SNAPSHOT_FILES_MAX: u32 = 512;
/// Heads of one file that a snapshot copies.
pub const SNAPSHOT_HEADS_MAX: usize = 4096;

/// Rows of one page for operators.
pub const PAGE_ROWS_MAX: u32 = 1000;
/// Rows of one page where the operator names no number.
pub const PAGE_ROWS_DEFAULT: u32 = 100;

// TLS between sites.

/// Bytes of a file with certificates or a key.
pub const TLS_FILE_BYTES_MAX: u64 = 256 * 1024;
/// CAs in a CA file, and certificates of one chain.
pub const TLS_CERTIFICATES_MAX: usize = 16;
/// Characters of a deployment's name.
pub const DEPLOYMENT_NAME_CHARS_MAX: usize = 63;
/// Connections from peers, without those in handshake.
pub const PEER_CONNECTIONS_MAX: usize = 512;
/// Connections in handshake; beyond, the address with the most of them loses its oldest.
pub const PEER_HANDSHAKES_MAX: usize = 64;
/// Seconds that a TLS handshake may last, and the wait for the peer's first word after it.
pub const PEER_HANDSHAKE_SECONDS_MAX: u64 = 5;
/// Seconds to resolve a peer's address and reach it.
pub const PEER_CONNECT_SECONDS_MAX: u64 = 3;
/// Addresses tried of those that a peer's name resolves to.
pub const PEER_ADDRESSES_MAX: usize = 8;
/// Seconds between two HTTP/2 pings on a connection between sites.
pub const PEER_PING_SECONDS: u64 = 2;
/// Seconds without an answer to a ping until the connection is given up.
pub const PEER_PING_SECONDS_MAX: u64 = 3;
/// Bytes read and thrown away from a refused connection, so that it reads why.
pub const REFUSED_BYTES_MAX: u64 = 16 * 1024;
/// Seconds for the same.
pub const REFUSED_SECONDS_MAX: u64 = 1;
/// Addresses whose refusals are remembered, so that each is logged once a minute.
pub const REFUSAL_ADDRESSES_MAX: usize = 1024;

// Membership.

/// Sites that the membership names, retired ones included.
pub const MEMBERS_MAX: usize = 4096;
/// Addresses of one member.
pub const MEMBER_ADDRESSES_MAX: usize = 8;
/// Characters of an address `host:port`: a name as DNS has it, brackets and port.
pub const HOST_AND_PORT_CHARS_MAX: usize = 262;
/// Addresses in a token.
pub const TOKEN_ADDRESSES_MAX: usize = 4;
/// Characters of a token.
pub const TOKEN_CHARS_MAX: usize = 2048;
/// Seconds that an invitation is good for, at most.
pub const INVITE_SECONDS_MAX: u64 = 30 * 24 * 60 * 60;
/// Invitations that are open at a time.
pub const INVITES_MAX: u32 = 1000;
/// Bytes of a request for a certificate.
pub const CERTIFICATE_REQUEST_BYTES_MAX: usize = 16 * 1024;
/// Bytes of a message of a site that joins or renews: certificates, and a request for one.
pub const JOIN_MESSAGE_BYTES_MAX: usize = 512 * 1024;
/// Connections of sites that join at a time; they hold no certificate yet.
pub const JOIN_CONNECTIONS_MAX: usize = 8;
/// Seconds after a start for which members are not dialled that a configured address may lead to.
pub const MEMBER_DIAL_SECONDS: u64 = 3;
/// Seconds for which a hub dials a site that does not dial it any more: it may just restart.
pub const MEMBER_LEFT_SECONDS: u64 = 10;
/// Seconds from connecting to being joined.
pub const JOIN_SECONDS_MAX: u64 = 20;

// The daemon: configuration, metrics.

/// Addresses on which phones are served.
pub const EDGE_ADDRESSES_MAX: usize = 16;
/// Peers that a configuration names.
pub const PEERS_MAX: usize = 512;
/// Connections to the database that a configuration may ask for; a private one takes 40 in all.
pub const DATABASE_POOL_MAX: u32 = 30;
/// Connections to the metrics listener; more wait.
pub const METRICS_CONNECTIONS_MAX: usize = 32;
/// Seconds that a request to the metrics listener may last, from its connection on.
pub const METRICS_SECONDS_MAX: u64 = 10;

// Replication.

/// Bytes of credit that a supplier keeps for one stream, whatever it is granted.
pub const CREDIT_BYTES_MAX: u64 = 8 * 1024 * 1024;
/// Bytes of credit that a consumer grants when a stream opens: what may be on its way at once.
pub const CREDIT_BYTES_GRANTED: u64 = 4 * 1024 * 1024;
/// Cursors in one message between sites.
pub const CURSORS_MAX: usize = LOGS_MAX;
/// Bytes of one message between sites: a page whose last record is the largest, or a whole vector.
pub const PEER_MESSAGE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Bytes of a text that a peer sends for people.
pub const PEER_TEXT_BYTES_MAX: usize = 512;
/// Bytes of the name of a release in a record.
pub const RELEASE_BYTES_MAX: usize = 64;
/// Kinds of records that a site says it reads.
pub const KINDS_MAX: usize = 256;
/// Seconds after which a `brurid` looks for records that another one of its site, of an earlier release, kept unread.
pub const UNREAD_SECONDS: u64 = 60;
/// Seconds after which a branch that gave way, and that could not be dropped, is looked for again.
pub const VOID_SECONDS: u64 = 5;
/// Bytes that one stream between sites receives ahead of its reader.
pub const PEER_STREAM_WINDOW_BYTES: u32 = 1024 * 1024;
/// Bytes that one connection between sites receives ahead: more than its two streams together.
pub const PEER_CONNECTION_WINDOW_BYTES: u32 = 4 * 1024 * 1024;
/// Records behind from which a log is caught up on a stream of its own.
pub const LIVE_LAG_RECORDS_MAX: u64 = 512;
/// Messages of one stream that wait to be sent.
pub const STREAM_QUEUE_MAX: usize = 2;
/// Milliseconds between two heartbeats while something changes.
pub const HEARTBEAT_BUSY_MILLIS: u64 = 100;
/// Milliseconds between two heartbeats while nothing changes.
pub const HEARTBEAT_IDLE_MILLIS: u64 = 1000;
/// Streams at a time on one connection of a peer: its live and its catch-up stream, and room for the
/// successors of streams that are just ending; and its 32 questions ([`PEER_ASKS_MAX`]).
pub const PEER_STREAMS_MAX: u32 = 40;
/// Seconds until a message of a peer has arrived whole: the largest, at 300 kbit/s. A dead line is
/// noticed by pings, long before.
pub const PEER_MESSAGE_SECONDS_MAX: u64 = 60;
/// Seconds without an answer to a ping until a supplier gives a consumer up: on a slow line the ping
/// waits behind pages.
pub const PEER_GONE_SECONDS_MAX: u64 = 30;
/// Milliseconds that a session lasts before it counts as one that works.
pub const SESSION_SETTLED_MILLIS: u64 = 2000;
/// Milliseconds until the vector is read again after the database did not answer.
pub const VECTOR_RETRY_MILLIS: u64 = 250;
/// Milliseconds between two attempts to reach a peer, at most; the first one follows at once.
pub const RECONNECT_MILLIS_MAX: u64 = 2000;
/// The same where only a person can mend what the peer refused.
pub const REFUSED_RECONNECT_MILLIS_MAX: u64 = 30_000;

/// Milliseconds without a word after which a peer counts as away.
pub const PEER_SILENT_MILLIS: u64 = 2000;
/// Milliseconds that a peer is ahead of us on a log until the log is taken from it.
pub const PEER_AHEAD_MILLIS: u64 = 300;
/// Sites through which a log comes, as far as they are counted.
pub const HOPS_MAX: u8 = 15;
/// Seconds that the link to a log's origin must have been good until the log is taken from there again.
pub const DIRECT_GOOD_SECONDS: u64 = 10;
/// Milliseconds between two looks at what only time changes: silence, and peers ahead of us.
pub const WATCH_MILLIS: u64 = 100;
/// Batches of different logs that are applied at a time, or wait for it.
pub const APPLIES_MAX: usize = 16;
/// Transactions that apply them at a time, each as many as wait.
pub const APPLY_GROUPS_MAX: usize = 1;
/// Bytes of bodies from which on another transaction applies them.
pub const APPLY_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Events of peers and answers of the store that wait for the replication engine.
pub const ENGINE_QUEUE_MAX: usize = 1024;
/// Records that a site may be behind a peer, over all logs of files, until it takes a snapshot, where its
/// configuration says nothing else.
pub const SNAPSHOT_LAG_RECORDS_DEFAULT: u64 = 20_000;
/// Of what a site has: where it is behind by less than one in so many, going on is faster than a snapshot.
pub const SNAPSHOT_LAG_SHARE: u64 = 10;
/// Seconds until a peer has answered with a chunk of a snapshot, or a page of history.
pub const SNAPSHOT_ANSWER_SECONDS_MAX: u64 = 60;
/// Milliseconds for which a peer that could not answer is passed over.
pub const SNAPSHOT_AVOID_MILLIS: u64 = 1000;
/// Milliseconds that a clock may be off before peers count as disagreeing with it.
pub const CLOCK_OFFSET_MILLIS_MAX: u64 = 2000;
/// Seconds that a clock is doubted after it jumped, unless a peer agrees with it.
pub const CLOCK_DOUBT_SECONDS: u64 = 600;
/// Seconds for which peers beat often after a phone has read here.
pub const READING_SECONDS: u64 = 5;

// Fresh reads.

/// Milliseconds that what a site knows of others may be old for a read, where a realm says nothing else.
pub const FRESHNESS_MILLIS_DEFAULT: u64 = 300;
/// The same that a realm may allow.
pub const FRESHNESS_MILLIS_MAX: u64 = 60_000;
/// Milliseconds that a read waits for the answers of peers where this site has a version itself.
pub const ASK_MILLIS_MAX: u64 = 150;
/// The same where this site has none: "not found" is the dangerous answer.
pub const ASK_NOTHING_MILLIS_MAX: u64 = 1000;
/// Milliseconds that any peer may have its question answered in, whatever it says.
pub const ANSWER_MILLIS_MAX: u64 = 2000;
/// Questions to one peer at a time; more wait, within their deadline.
pub const PEER_ASKS_MAX: usize = 32;
/// Questions of peers that are answered at a time; beyond, this site cannot tell.
pub const PEER_ANSWERS_MAX: usize = 64;
/// Questions to one peer that fail in a row until it is not asked for a while.
pub const ASK_FAILURES_MAX: u32 = 3;
/// Milliseconds of that while.
pub const ASK_BREAK_MILLIS: u64 = 1000;
/// Sites that peers are asked to ask in our place; where there are more, only peers are asked: a thousand offices would
/// ask each other with every log-in.
pub const ASK_FORWARDS_MAX: usize = 64;
/// Peers that are asked to ask the same site in our place.
pub const ASK_HUBS_MAX: usize = 2;
/// Bytes of bodies in one answer to a peer; with more, this site cannot tell.
pub const ANSWER_BODIES_BYTES_MAX: usize = 3 * 1024 * 1024;
/// Bytes of a file's state in one answer to a peer; with more, this site cannot tell.
pub const ANSWER_STATE_BYTES_MAX: usize = 512 * 1024;
/// Milliseconds between two words to peers that phones read here, at least.
pub const READING_NOTE_MILLIS: u64 = 1000;

// Epochs and forks.

/// Milliseconds after a start or a reconnect for which nothing is numbered unless a peer has answered.
pub const PEER_ANSWER_MILLIS_MAX: u64 = 1000;
/// Milliseconds after which at the latest the witness is on disk, and not only with the kernel.
pub const WITNESS_SYNC_MILLIS: u64 = 1000;
/// Sequences that are compared at once to find where two branches of a log part.
pub const FORK_PROBES_MAX: u64 = 64;
/// Records of a void branch that are set back at once; a longer one needs a person.
pub const FORK_RECORDS_MAX: u64 = 100_000;
/// Files whose states are made anew at once.
pub const REBUILD_FILES_MAX: usize = 128;

// Proof and repair.

/// Parts into which the files of a site are divided to find those in which two sites differ.
pub const DIGEST_BUCKETS: usize = 65_536;
/// Rows that are read at a time to sum them up, or to look for damage.
pub const DIGEST_ROWS_MAX: u64 = 1024;
/// Damaged or differing files that are dealt with and named at a time; the next turn finds more.
pub const DAMAGED_FILES_MAX: usize = 256;
/// Buckets whose files a peer is asked about at once.
pub const COMPARED_BUCKETS_MAX: usize = 64;
/// Files that a peer tells of in answer; with more it cannot tell.
pub const COMPARED_FILES_MAX: usize = 16_384;
/// Bodies that a peer is asked for at once.
pub const FETCHED_BODIES_MAX: usize = 64;
/// Seconds for which two sites that go on taking backups are compared again and again.
pub const COMPARING_SECONDS_MAX: u64 = 20;
/// Milliseconds between the first two attempts to compare them; then twice as long each time, up to so many seconds.
pub const COMPARE_AGAIN_MILLIS: u64 = 100;
/// See [`COMPARE_AGAIN_MILLIS`].
pub const COMPARE_AGAIN_SECONDS_MAX: u64 = 2;
/// Seconds that a peer may take to sum up its files.
pub const COMPARE_ANSWER_SECONDS_MAX: u64 = 60;
/// Seconds between two attempts to get bodies that are lacking, at least.
pub const FETCH_AGAIN_SECONDS_MIN: u64 = 1;
/// The same at most.
pub const FETCH_AGAIN_SECONDS_MAX: u64 = 60;
/// Days within which every body is hashed again.
pub const SCRUB_DAYS: u64 = 30;
/// Parts into which bodies are divided for that, by the first 16 bits of their hash.
pub const SCRUB_SLICES: u64 = 65_536;

// The operators' services.

/// Connections of operators; more wait.
pub const OPS_CONNECTIONS_MAX: usize = 32;
/// Requests and streams at a time on one such connection.
pub const OPS_STREAMS_MAX: u32 = 32;
/// Requests of operators that use the database at a time; more wait.
pub const OPS_REQUESTS_MAX: usize = 8;
/// Bytes of an operator's request.
pub const OPS_REQUEST_BYTES_MAX: usize = 64 * 1024;
/// Seconds that an operator's request may last.
pub const OPS_REQUEST_SECONDS_MAX: u64 = 30;
/// Seconds that requests have to end in when the site stops.
pub const OPS_STOP_SECONDS_MAX: u64 = 3;
/// Seconds to find out whether somebody serves a socket already.
pub const OPS_PROBE_SECONDS_MAX: u64 = 1;
/// Bytes of a socket's path, as Linux has it.
pub const SOCKET_PATH_BYTES_MAX: usize = 107;
/// Bytes of the list of users in which an operator's name is looked up.
pub const USERS_BYTES_MAX: u64 = 1024 * 1024;

// The edge.

/// Connections of phones; beyond, the longest idle ones of the address with the most of them are closed.
pub const EDGE_CONNECTIONS_MAX: usize = 4096;
/// The part of those that is closed at once to make room: one in so many.
pub const EDGE_ROOM_DIVISOR: usize = 64;
/// Connections that found no room and still wait to read so; more are closed without a word.
pub const EDGE_REFUSALS_MAX: usize = 64;
/// Seconds until a phone that was refused for want of room should come again.
pub const EDGE_RETRY_AFTER_SECONDS: u64 = 2;
/// Headers of a request.
pub const EDGE_HEADERS_MAX: usize = 100;
/// Bytes of a request line with its headers.
pub const EDGE_HEAD_BYTES_MAX: usize = 16 * 1024;
/// Bytes read ahead of what was asked for.
pub const EDGE_BUFFER_BYTES_MAX: usize = 64 * 1024;
/// Seconds from the first byte of a request to the end of its headers.
pub const EDGE_HEAD_SECONDS_MAX: u64 = 10;
/// Milliseconds for the same once the site is stopping.
pub const EDGE_LAST_HEAD_MILLIS_MAX: u64 = 1000;
/// Seconds that a connection may be idle, or its phone not read the answer.
pub const EDGE_IDLE_SECONDS_MAX: u64 = 30;
/// Seconds that a body may take.
pub const EDGE_BODY_SECONDS_MAX: u64 = 30;
/// Seconds without a byte of a body.
pub const EDGE_BODY_STALL_SECONDS_MAX: u64 = 10;
/// Bytes of a body above which it counts among the large ones.
pub const EDGE_SMALL_BODY_BYTES_MAX: usize = 64 * 1024;
/// Large bodies in memory, on their way in or out.
pub const EDGE_LARGE_BODIES_MAX: usize = 256;
/// Bytes read and thrown away after an answer, so that a phone that still sends reads it.
pub const EDGE_LINGER_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// Seconds for the same.
pub const EDGE_LINGER_SECONDS_MAX: u64 = 2;
/// Seconds that the store may take for one request.
pub const EDGE_STORE_SECONDS_MAX: u64 = 15;
/// Seconds that requests in flight may take when the site stops.
pub const EDGE_DRAIN_SECONDS_MAX: u64 = 5;
/// Bytes of a path that the log shows.
pub const EDGE_LOGGED_PATH_BYTES_MAX: usize = 128;

// The operators' command.

/// Seconds to reach a site's socket.
pub const CLI_CONNECT_SECONDS_MAX: u64 = 5;
/// Rows that a command lists where the operator names no number.
pub const CLI_ROWS_DEFAULT: u32 = 1000;
/// Rows that a command lists.
pub const CLI_ROWS_MAX: u32 = 1_000_000;
/// Bytes of an answer that the command reads when it behaves like a phone.
pub const CLI_ANSWER_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Seconds that it waits for one, from dialling to the last byte.
pub const CLI_ANSWER_SECONDS_MAX: u64 = 60;
/// Bytes of a server's complaint that it shows.
pub const CLI_COMPLAINT_BYTES_MAX: usize = 512;
/// Bytes of a body without text that it shows.
pub const CLI_SHOWN_BYTES_MAX: usize = 256;
