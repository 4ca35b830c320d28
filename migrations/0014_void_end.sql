-- The last number of the branch of an own log that gave way: up to there a number means one record of either branch,
-- and what comes back of the one that stays is written again.
alter table log add column void_sequence bigint;
