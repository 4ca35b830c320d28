-- An erasure names its subject by a hash under the deployment key, so that is how its files are found.

-- Null in rows of a release before; they are filled in when brurid starts.
alter table file add column subject bytea check (length(subject) = 32);

create index file_subject on file (subject);
