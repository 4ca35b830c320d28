-- An epoch must end where the database may have lost the end of a log: after a failover, or when a dump was
-- put back. So each log remembers which database numbered it last.

alter table log
    -- System identifier and timeline of the Postgres that numbered it last; null where that is not known.
    add column identity text,
    -- Of a log of this site: it forked, and this site gave way to the branch that peers hold.
    add column set_back boolean not null default false,
    -- Of a log that was set back: the first place of the branch that stays, and its chain there. Peers that
    -- have not heard of it yet still supply the other one.
    add column stays_sequence bigint,
    add column stays_chain bytea check (length(stays_chain) = 32);
