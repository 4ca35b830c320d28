-- What phones had seen, so that a version that was written without knowledge of another is known for that;
-- and the conflicts that come of it. Both are this site's own and never replicated.

create table remembered (
    realm text collate "C" not null,
    name text collate "C" not null,
    -- An IP address, and after a space the MAC where the phone tells it.
    phone text collate "C" not null,
    -- The erasure generation of the file then. Null, as is the context: an answer did not arrive whole, so
    -- nobody knows what the phone has.
    generation bigint,
    -- An encoded bruri.record.v1.Context.
    context bytea,
    -- When it was served or wrote, or up to a day before, microseconds since 1970.
    noted_micros bigint not null,
    constraint remembered_pk primary key (realm, name, phone)
) with (fillfactor = 80);

-- The oldest go first.
create index remembered_age on remembered (noted_micros);

create table conflict (
    realm text collate "C" not null,
    name text collate "C" not null,
    -- Counts the conflicts of the file here, from 1.
    number integer not null,
    -- When this site came to know of it, microseconds since 1970.
    opened_micros bigint not null,
    -- The dots of the heads that it opened with and of those that joined.
    heads text[] not null,
    -- When this site came to know of its end, and the version that ended it; null while it is open.
    ended_micros bigint,
    ended_by text,
    constraint conflict_pk primary key (realm, name, number)
);

create unique index conflict_open on conflict (realm, name) where ended_micros is null;
