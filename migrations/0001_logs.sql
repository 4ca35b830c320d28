-- The site that owns this database, and how far it has applied each log: its own and those of others.

create table site (
    only_row boolean primary key default true check (only_row),
    name text not null,
    -- Tells deployment keys apart without telling the key: subjects are hashed under it for ever.
    deployment_key_check bytea not null
);

create table log (
    -- A short name for the rows of `record`; says nothing about order.
    id integer generated always as identity primary key,
    site text collate "C" not null,
    -- 64 random bits, stored as a signed number.
    epoch bigint not null,
    -- 1 control, 2 files.
    kind smallint not null check (kind in (1, 2)),
    -- Where the site left its log before this one; all null in its first.
    predecessor_epoch bigint,
    predecessor_sequence bigint,
    predecessor_chain bytea,
    -- The last sequence written or applied, and the chain there: counter and cursor in one.
    sequence bigint not null check (sequence >= 0),
    chain bytea not null check (length(chain) = 32),
    -- The newest time issued in it, microseconds since 1970.
    stamp_micros bigint not null default 0,
    -- This site appends to it.
    is_open boolean not null,
    constraint log_site_epoch unique (site, epoch)
) with (fillfactor = 50); -- room for updates in place: this row changes with every commit

-- However many brurid start at once, a site opens one log of each kind.
create unique index log_open on log (site, kind) where is_open;
