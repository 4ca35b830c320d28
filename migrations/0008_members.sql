-- The sites of the deployment, from the membership records: of several about one site, the one that outranks.
create table member (
    site text primary key,
    -- Refused everywhere, for ever.
    is_retired boolean not null,
    -- host:port each.
    addresses text[] not null,
    -- It holds the deployment's CA.
    issues boolean not null,
    operator text not null,
    is_trusted boolean not null,
    stamp_micros bigint not null,
    random bytea not null
);

-- Invitations that this site made; only a hash of the secret is kept. Local, not replicated.
create table invite (
    secret_sha256 bytea primary key,
    site text not null,
    expires_at timestamptz not null,
    -- The hash of the public key that redeemed it; the same one may ask again.
    key_sha256 bytea
);
