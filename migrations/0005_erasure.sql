-- Records of the control log that concern no file: what was erased, by whom, and which sites have done it.

-- Where records of this site's own control log are, so that one that is appended twice after an
-- answer got lost is found.
create table control_place (
    random bytea primary key check (length(random) = 16),
    log integer not null,
    sequence bigint not null
);

-- Subjects that were erased, hidden under the deployment key.
create table erased (
    subject bytea primary key check (length(subject) = 32),
    -- What is older is erased.
    generation bigint not null check (generation >= 0),
    -- Nothing is taken for it: an erasure was not lifted.
    barred boolean not null
);

-- Every erasure that is known, or that a lift names whose own record has not come yet.
create table erasure (
    subject bytea not null check (length(subject) = 32),
    random bytea not null check (length(random) = 16),
    -- Its record; null until that has come, as is what it says.
    log integer,
    sequence bigint,
    -- To which generation it raises its subject.
    generation bigint,
    stamp_micros bigint,
    operator text,
    -- Who lifted it, and when; null while it bars.
    lifted_micros bigint,
    lifted_by text,
    -- What was removed here: versions that lost their content, and bodies that they named.
    versions bigint not null default 0,
    bodies bigint not null default 0,
    -- This site has said so in its log.
    receipted boolean not null default false,
    constraint erasure_pk primary key (subject, random)
);

-- Those that this site has not given its receipt for.
create index erasure_unreceipted on erasure (subject, random)
    where not receipted and log is not null;

create table erasure_receipt (
    subject bytea not null,
    -- Of the erasure, whose own record may come later.
    erasure bytea not null check (length(erasure) = 16),
    site text collate "C" not null,
    stamp_micros bigint not null,
    versions bigint not null,
    bodies bigint not null,
    constraint erasure_receipt_pk primary key (subject, erasure, site)
);
