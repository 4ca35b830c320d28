-- What a site's release can read, and records that this one's release could not read when they came.

create table release (
    site text collate "C" primary key,
    -- For people.
    release text not null,
    -- The kinds of records that it applies, as envelopes number them.
    kinds integer[] not null,
    is_trusted boolean not null,
    stamp_micros bigint not null,
    random bytea not null check (length(random) = 16)
);

-- Records of kinds that the brurid which stored them could not read: kept and forwarded, and applied by the first
-- one that can.
create table unread_record (
    log integer not null,
    sequence bigint not null,
    kind integer not null,
    -- Whom it concerns, hidden; null where nobody.
    subject bytea check (length(subject) = 32),
    -- The erasure generation of the subject that the writer knew.
    generation bigint not null,
    constraint unread_record_pk primary key (log, sequence)
);

create index unread_record_subject on unread_record (subject) where subject is not null;

-- Those that a release can read, which are none but after an upgrade.
create index unread_record_kind on unread_record (kind);
