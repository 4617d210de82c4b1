-- In a database mqtt: psql -d mqtt -f postgres.sql
create table if not exists mqtt_user (
    id serial primary key,
    username text not null unique,
    password text,
    salt text,
    is_superuser boolean not null default false,
    created timestamp with time zone
);
create table if not exists mqtt_acl (
    id serial primary key,
    allow integer not null,
    ipaddr text,
    username text,
    clientid text,
    access integer not null,
    topic text not null
);
-- ann, password secret
insert into mqtt_user (username, password, salt) values ('ann', encode(sha256('saltsecret'), 'hex'), 'salt');
insert into mqtt_user (username, password, salt, is_superuser) values ('root', encode(sha256('saltsecret'), 'hex'), 'salt', true);
-- access: 1 subscribe, 2 publish, 3 both
insert into mqtt_acl (allow, username, access, topic) values (1, 'ann', 3, 'home/#'), (0, '$all', 1, 'eq #');
create role nightjar login password 'change-me';
grant select on mqtt_user, mqtt_acl to nightjar;
