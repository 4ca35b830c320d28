-- Every record of every log, byte for byte as its origin wrote it, and the bodies, each once.

create table body (
    sha256 bytea primary key check (length(sha256) = 32),
    -- Of the body itself, before compression.
    bytes integer not null check (bytes >= 0),
    -- A zstd frame: compressing it once more would only cost time.
    content bytea not null
);

alter table body alter column content set storage external;

create table record (
    -- No foreign key to log: it would lock the counter row once more for every record.
    log integer not null,
    sequence bigint not null check (sequence > 0),
    envelope bytea not null,
    -- The chain of the log up to here.
    chain bytea not null check (length(chain) = 32),
    -- Null: erased.
    payload bytea,
    -- The file it is a version of; null for records of no file and of kinds not known here.
    realm text collate "C",
    name text collate "C",
    -- The origin's time, microseconds since 1970; only to list versions in an order people expect.
    stamp_micros bigint,
    -- Null: a deletion, or removed by retention.
    body bytea constraint record_body references body (sha256),
    constraint record_pk primary key (log, sequence)
);

create index record_file on record (realm, name, stamp_micros desc, log desc, sequence desc)
    where name is not null;
