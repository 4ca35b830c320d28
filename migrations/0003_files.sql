-- Per file what decides which version a phone gets. Derived from the records of the file; kept in one
-- row, so that a GET reads one row and a PUT locks one.

create table file (
    realm text collate "C" not null,
    name text collate "C" not null,
    -- An encoded bruri.record.v1.FileState.
    state bytea not null,
    -- SHA-256 over realm, name and state: a row that was changed by hand is not believed.
    checksum bytea not null,
    -- The body of the served version, so that a GET need not read the state first; null where a phone
    -- gets 404.
    served_body bytea,
    -- When a phone last sent what is served already, microseconds since 1970.
    confirmed_micros bigint,
    constraint file_pk primary key (realm, name)
) with (fillfactor = 70);
