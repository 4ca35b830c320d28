-- Retention: bodies go and records stay; and what one brurid of a site does at a time.

-- The version names a body that is not kept here: retention dropped it, or the peer that sent the record had
-- it no more. Then `body` is null.
alter table record add column pruned boolean not null default false;

-- Whether a body is still referenced, for us and for the foreign key.
create index if not exists record_body on record (body) where body is not null;

-- Bodies that lost a reference, to be deleted where that was the last.
create table dropped_body (
    sha256 bytea primary key check (length(sha256) = 32)
);

-- Bodies that a file cannot be served without and that are not here: of pruned records that are heads.
create table wanted_body (
    realm text collate "C" not null,
    name text collate "C" not null,
    log integer not null,
    sequence bigint not null,
    sha256 bytea not null check (length(sha256) = 32),
    bytes integer not null check (bytes >= 0),
    -- How often it was asked for; those that were asked for least come first.
    asked bigint not null default 0,
    constraint wanted_body_pk primary key (realm, name, log, sequence)
);

create index wanted_body_sha256 on wanted_body (sha256);
create index wanted_body_asked on wanted_body (asked);

-- Work in the background that one process does at a time, by the database's clock.
create table job (
    job text collate "C" primary key,
    -- Raised whenever it is taken: who has an older one has lost it.
    fence bigint not null,
    leased_until timestamptz not null,
    -- Not to be taken before.
    due_at timestamptz not null,
    -- The last file that is done; both null between two passes.
    after_realm text collate "C",
    after_name text collate "C"
);
