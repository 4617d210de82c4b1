//! Topic names and filters: what is valid, what matches, and the types that promise it.

use std::collections::HashMap;

use nightjar_mqtt::topic::{self, SharedFilter, is_shared, levels, matches, split_shared};
use nightjar_mqtt::{
    TopicError, TopicFilter, TopicName, validate_topic_filter, validate_topic_name,
};

#[test]
fn names() {
    for name in [
        "a",
        "/",
        "//",
        "a/b",
        "/a",
        "a/",
        " ",
        "a b",
        "$SYS/x",
        "é/😀",
        "a\u{feff}",
        "$share/g/a",
        "-",
        "\u{1}",
    ] {
        assert_eq!(validate_topic_name(name), Ok(()), "{name:?}");
        assert!(TopicName::new(name).is_ok());
    }
    let rows = [
        ("", TopicError::Empty),
        ("#", TopicError::WildcardInName(0)),
        ("+", TopicError::WildcardInName(0)),
        ("a/b/+", TopicError::WildcardInName(4)),
        ("a#", TopicError::WildcardInName(1)),
        ("\0", TopicError::Null(0)),
        ("ab\0", TopicError::Null(2)),
    ];
    for (name, error) in rows {
        assert_eq!(validate_topic_name(name), Err(error), "{name:?}");
        assert_eq!(TopicName::new(name).err(), Some(error));
    }
    assert_eq!(validate_topic_name(&"x".repeat(65_535)), Ok(()));
    assert_eq!(
        validate_topic_name(&"x".repeat(65_536)),
        Err(TopicError::TooLong(65_536))
    );
}

#[test]
fn a_bad_character_is_found_wherever_it_stands() {
    // The check goes by blocks: every length and position around their borders.
    for length in 1..80 {
        let good = "x".repeat(length);
        assert_eq!(validate_topic_name(&good), Ok(()));
        for at in 0..length {
            for (bad, error) in [
                ("#", TopicError::WildcardInName(at)),
                ("+", TopicError::WildcardInName(at)),
                ("\0", TopicError::Null(at)),
            ] {
                let mut name = good.clone();
                name.replace_range(at..=at, bad);
                assert_eq!(validate_topic_name(&name), Err(error), "{name:?}");
            }
        }
    }
}

#[test]
fn filters() {
    let good = [
        "a",
        "/",
        "+",
        "#",
        "+/+",
        "/+",
        "+/",
        "a/#",
        "/#",
        "+/#",
        "a/+/b",
        "a/+/#",
        "$SYS/#",
        "$share",
        "$shared/a",
        "é/+",
        "$share/g/a",
        "$share/g/#",
        "$share/g/+/b",
        "$share/a b/x",
        "$share/g//",
        "$share/g/$share/h/x",
        "$Share/+/#",
    ];
    for filter in good {
        assert_eq!(validate_topic_filter(filter), Ok(()), "{filter:?}");
        assert!(TopicFilter::new(filter).is_ok());
    }
    let rows = [
        ("", TopicError::Empty),
        ("\0", TopicError::Null(0)),
        ("a/\0/b", TopicError::Null(2)),
        ("##", TopicError::MultiLevelWildcard(0)),
        ("a#", TopicError::MultiLevelWildcard(1)),
        ("#a", TopicError::MultiLevelWildcard(0)),
        ("a/#/", TopicError::MultiLevelWildcard(2)),
        ("++", TopicError::SingleLevelWildcard(0)),
        ("a+", TopicError::SingleLevelWildcard(1)),
        ("+a", TopicError::SingleLevelWildcard(0)),
        ("+#", TopicError::SingleLevelWildcard(0)),
        ("#+", TopicError::MultiLevelWildcard(0)),
        ("$share/", TopicError::EmptyShareName),
        ("$share//", TopicError::EmptyShareName),
        ("$share/g", TopicError::EmptySharedFilter),
        ("$share/g/", TopicError::EmptySharedFilter),
        ("$share/+/a", TopicError::WildcardInShareName),
        ("$share/g#/a", TopicError::WildcardInShareName),
        ("$share/g/a+", TopicError::SingleLevelWildcard(10)),
        ("$share/g/#/a", TopicError::MultiLevelWildcard(9)),
        ("$share/g\0/a", TopicError::Null(8)),
    ];
    for (filter, error) in rows {
        assert_eq!(validate_topic_filter(filter), Err(error), "{filter:?}");
        assert_eq!(TopicFilter::new(filter).err(), Some(error));
    }
    assert_eq!(
        validate_topic_filter(&"x".repeat(65_536)),
        Err(TopicError::TooLong(65_536))
    );
}

#[test]
fn shared_filters_split() {
    let shared = |group, filter| Ok(Some(SharedFilter { group, filter }));
    assert_eq!(split_shared("$share/g/a/+/#"), shared("g", "a/+/#"));
    assert_eq!(split_shared("$share/g//"), shared("g", "/"));
    assert_eq!(
        split_shared("$share/g/$share/h/a"),
        shared("g", "$share/h/a")
    );
    for plain in ["a", "$share", "$shared/g/a", "/$share/g/a", "$SHARE/g/a"] {
        assert_eq!(split_shared(plain), Ok(None), "{plain}");
        assert!(!is_shared(plain));
    }
    assert!(is_shared("$share/g/a"));
    let filter = TopicFilter::new("$share/g/a/+").expect("valid");
    assert_eq!(
        filter.shared(),
        Some(SharedFilter {
            group: "g",
            filter: "a/+"
        })
    );
    assert_eq!(filter.routing_filter(), "a/+");
    assert!(filter.matches("a/b") && !filter.matches("$share/g/a/b"));
    assert!(filter.has_wildcard());
    let plain = TopicFilter::new("a/b").expect("valid");
    assert_eq!(
        (plain.shared(), plain.routing_filter(), plain.has_wildcard()),
        (None, "a/b", false)
    );
}

/// Filter, topic, whether they match: the examples of section 4.7 and the corners around them.
const MATCHES: [(&str, &str, bool); 55] = [
    ("sport/tennis/player1/#", "sport/tennis/player1", true),
    (
        "sport/tennis/player1/#",
        "sport/tennis/player1/ranking",
        true,
    ),
    (
        "sport/tennis/player1/#",
        "sport/tennis/player1/score/wimbledon",
        true,
    ),
    ("sport/tennis/player1/#", "sport/tennis/player2", false),
    ("sport/#", "sport", true),
    ("sport/#", "sports", false),
    ("#", "sport", true),
    ("#", "/", true),
    ("#", "a/b/c", true),
    ("sport/tennis/+", "sport/tennis/player1", true),
    ("sport/tennis/+", "sport/tennis/player2", true),
    ("sport/tennis/+", "sport/tennis/player1/ranking", false),
    ("sport/+", "sport", false),
    ("sport/+", "sport/", true),
    ("+", "sport", true),
    ("+", "a/b", false),
    ("+/tennis/#", "sport/tennis", true),
    ("+/tennis/#", "sport/tennis/a/b", true),
    ("sport/+/player1", "sport/tennis/player1", true),
    ("sport/+/player1", "sport/player1", false),
    ("sport/+/player1", "sport//player1", true),
    ("+/+", "/finance", true),
    ("/+", "/finance", true),
    ("+", "/finance", false),
    ("#", "$SYS/monitor/Clients", false),
    ("+/monitor/Clients", "$SYS/monitor/Clients", false),
    ("$SYS/#", "$SYS/monitor/Clients", true),
    ("$SYS/#", "$SYS", true),
    ("$SYS/monitor/+", "$SYS/monitor/Clients", true),
    ("+/#", "$SYS/monitor", false),
    ("+", "$SYS", false),
    ("#", "$", false),
    ("+/a", "$b/a", false),
    ("$b/+", "$b/a", true),
    ("$+/a", "$b/a", false),
    ("a/$x", "a/$x", true),
    ("a/+", "a/$x", true),
    ("a/#", "a/$x", true),
    ("/#", "/$SYS", true),
    ("/+", "/$SYS", true),
    ("ACCOUNTS", "Accounts", false),
    ("Accounts payable", "Accounts payable", true),
    ("/finance", "finance", false),
    ("finance/", "finance", false),
    ("finance", "finance/", false),
    ("/", "/", true),
    ("//", "/", false),
    ("a//b", "a//b", true),
    ("a//b", "a/b", false),
    ("a/+/b", "a//b", true),
    ("+/+/+", "//", true),
    ("+/+", "//", false),
    ("a/b/#", "a", false),
    ("a/+/#", "a", false),
    ("a/+/#", "a/b", true),
];

#[test]
fn filters_match_topics_level_by_level() {
    for (filter, name, expected) in MATCHES {
        assert_eq!(matches(filter, name), expected, "{filter} {name}");
    }
}

#[test]
fn levels_are_counted() {
    for (topic, count) in [
        ("a", 1),
        ("/", 2),
        ("a/b", 2),
        ("/a/", 3),
        ("//", 3),
        ("a/b/c/#", 4),
    ] {
        assert_eq!(levels(topic), count, "{topic}");
    }
}

#[test]
fn topics_are_shared_text() {
    let name: TopicName = "a/b".parse().expect("valid");
    let again = name.clone();
    assert!(
        std::ptr::eq(name.as_str(), again.as_str()),
        "cloning copies no text"
    );
    assert_eq!(name, again);
    assert_eq!(name.to_string(), "a/b");
    assert_eq!(name.split('/').count(), 2);
    assert_eq!(TopicName::try_from(String::from("a/b")), Ok(again));
    assert_eq!(TopicName::from_validated("x").as_arc().as_ref(), "x");
    // A map by topic can be asked with a plain string.
    let map = HashMap::from([(name, 1)]);
    assert_eq!(map.get("a/b"), Some(&1));
    let filters = HashMap::from([(TopicFilter::try_from("a/+").expect("valid"), 1)]);
    assert_eq!(filters.get("a/+"), Some(&1));
    assert_eq!(topic::MAX_TOPIC_LEN, 65_535);
}
