-- A site that is far behind copies the states of files first, goes on from where the supplier's logs were then, and
-- fills the history in after that.

alter table log
    -- While states are copied: how far the supplier had the log before it read the first of them.
    add column noted_sequence bigint,
    add column noted_chain bytea check (length(noted_chain) = 32),
    -- The records after `filled` up to `floor` are not here yet, but for those of heads; all null where nothing
    -- is missing.
    add column filled_sequence bigint,
    add column filled_chain bytea check (length(filled_chain) = 32),
    add column floor_sequence bigint,
    add column floor_chain bytea check (length(floor_chain) = 32),
    -- Records of heads came with states, the last of them here: what is applied up to there may be here already.
    add column heads_sequence bigint not null default 0;

-- The states that are being copied; no row where none are.
create table snapshot (
    only_row boolean primary key default true check (only_row),
    -- The last file that came.
    after_realm text collate "C" not null,
    after_name text collate "C" not null,
    files bigint not null
);

-- Whether anything is missing, and where.
create index log_floor on log (site, epoch) where floor_sequence is not null;
