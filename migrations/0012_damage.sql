-- What was found damaged, and how far the scrubber came.

-- Bodies that records reference and that are missing or not what their hash says: never handed out, and
-- replaced by what a peer has.
create table damaged_body (
    sha256 bytea primary key check (length(sha256) = 32),
    -- How often it was asked for; those that were asked for least come first.
    asked bigint not null default 0
);

-- Of a job that goes through hashes: the slice that is next.
alter table job add column slice integer not null default 0;
