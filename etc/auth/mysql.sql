create database if not exists mqtt;
use mqtt;
create table if not exists mqtt_user (
    id int unsigned not null auto_increment primary key,
    username varchar(100) not null unique,
    password varchar(100),
    salt varchar(35),
    is_superuser tinyint(1) not null default 0,
    created datetime
);
create table if not exists mqtt_acl (
    id int unsigned not null auto_increment primary key,
    allow tinyint(1) not null,
    ipaddr varchar(60),
    username varchar(100),
    clientid varchar(100),
    access tinyint(2) not null,
    topic varchar(100) not null
);
-- ann, password secret
insert into mqtt_user (username, password, salt) values ('ann', sha2(concat('salt', 'secret'), 256), 'salt');
insert into mqtt_user (username, password, salt, is_superuser) values ('root', sha2(concat('salt', 'secret'), 256), 'salt', 1);
-- access: 1 subscribe, 2 publish, 3 both
insert into mqtt_acl (allow, username, access, topic) values (1, 'ann', 3, 'home/#'), (0, '$all', 1, 'eq #');
create user if not exists 'nightjar'@'%' identified by 'change-me';
grant select on mqtt.* to 'nightjar'@'%';
