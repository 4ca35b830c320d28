-- What realms want: records of the control log, merged like the versions of a file.

create table realm (
    id text collate "C" primary key,
    -- Which records count, encoded as a file's state.
    state bytea not null
);

-- What they say, by its hash; few and small, never removed.
create table realm_settings (
    sha256 bytea primary key check (length(sha256) = 32),
    settings bytea not null
);
