-- The tables of EMQ X 4.4's MySQL plugin, and what the tests put into them. Passwords are SHA-256 without salt, in lower case.
create table mqtt_user (
    id int unsigned not null auto_increment,
    username varchar(100) default null,
    password varchar(100) default null,
    salt varchar(35) default null,
    is_superuser tinyint(1) default 0,
    created datetime default null,
    primary key (id),
    unique key mqtt_username (username)
) engine = InnoDB default charset = utf8mb4;
create table mqtt_acl (
    id int unsigned not null auto_increment,
    allow int(1) default null comment '0: deny, 1: allow',
    ipaddr varchar(60) default null,
    username varchar(100) default null,
    clientid varchar(100) default null,
    access int(2) not null comment '1: subscribe, 2: publish, 3: both',
    topic varchar(100) not null default '',
    primary key (id)
) engine = InnoDB default charset = utf8mb4;
insert into mqtt_user (username, password, is_superuser, created) values
    ('ann', sha2('secret', 256), 0, now()),
    ('root', sha2('rooted', 256), 1, now()),
    ('dashboard', sha2('shown', 256), 0, now()),
    ('empty', null, 0, now());
-- The last row that the query returns is tried first.
insert into mqtt_acl (allow, ipaddr, username, clientid, access, topic) values
    (1, null, 'ann', null, 1, 'sensors/#'),
    (0, null, 'ann', null, 3, 'sensors/secret/#'),
    (1, null, '$all', null, 2, 'up/%c'),
    (1, null, '$all', null, 1, 'of/%u/#'),
    (1, '127.0.0.2', null, null, 1, 'near/#'),
    (1, null, null, 'dev-1', 1, 'eq raw/#'),
    (1, '127.0.0.2', 'ann', 'dev-1', 2, 'all/three'),
    (1, '127.0.0.9', 'ann', null, 2, 'both/wrong');
create user 'emqx'@'%' identified by 'public';
grant select on mqtt.* to 'emqx'@'%';
