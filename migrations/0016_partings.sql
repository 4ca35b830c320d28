-- Logs that forked while states of files were copied: which of them a state may know the branch of that gave way.

alter table log
    -- The site of the log told which branch stays, and nothing was done for it yet.
    add column parting_due boolean not null default false,
    -- States that a peer copied may know of the log up to here.
    add column stated_sequence bigint not null default 0;

alter table snapshot
    -- It goes back: files up to the last one that came are made anew from the records that are here, from the first on.
    add column given_up boolean not null default false;

-- Hardly ever there is one.
create index log_parting_due on log (id) where parting_due;
create index log_stays on log (id) where stays_sequence is not null;
