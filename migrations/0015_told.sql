-- The highest numbers of other sites' logs that phones here were answered with because those sites told of
-- them. Where the site is rolled back before a record of one came here, it must not give that number again.
create table told (
    site     text   not null,
    epoch    bigint not null,
    sequence bigint not null,
    primary key (site, epoch)
);
