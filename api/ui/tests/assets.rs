//! What is embedded, whether the dashboard was built or the plain page stands in for it.

use std::io::Read;

fn text(asset: &nightjar_ui::Asset) -> String {
    let mut text = String::new();
    flate2::read::GzDecoder::new(asset.gzip)
        .read_to_string(&mut text)
        .expect("gzip of text");
    text
}

#[test]
fn the_page_is_answered_at_the_root_and_by_name() {
    let page = nightjar_ui::asset("/").expect("a page");
    assert_eq!(Some(page), nightjar_ui::asset("/index.html"));
    assert_eq!(Some(page), nightjar_ui::asset("index.html"));
    assert_eq!(page.content_type, "text/html; charset=utf-8");
    assert!(text(&page).to_lowercase().contains("<!doctype html>"));
    assert!(
        !page.immutable,
        "a page that is kept for ever would name files of an older version"
    );
    assert_eq!(page.cache_control(), "no-cache");
}

#[test]
fn paths_outside_are_unknown() {
    for path in [
        "/../Cargo.toml",
        "//index.html",
        "/index.html/",
        "/INDEX.HTML",
        "/assets",
        "/%2e%2e/x",
        "/\0",
        "/.",
    ] {
        assert!(nightjar_ui::asset(path).is_none(), "{path}");
    }
}

#[test]
fn each_file_has_its_own_etag_and_unpacks() {
    let mut tags = std::collections::HashSet::new();
    for path in nightjar_ui::paths() {
        let asset =
            nightjar_ui::asset(path).unwrap_or_else(|| panic!("{path} is listed but not found"));
        assert!(
            asset.etag.starts_with('"') && asset.etag.ends_with('"') && asset.etag.len() == 18,
            "{}",
            asset.etag
        );
        assert!(tags.insert(asset.etag), "{path} shares its ETag");
        let mut body = Vec::new();
        flate2::read::GzDecoder::new(asset.gzip)
            .read_to_end(&mut body)
            .expect("gzip");
        assert!(!body.is_empty(), "{path} is empty");
        assert_eq!(asset.immutable, path.starts_with("assets/"), "{path}");
    }
}

#[test]
fn if_none_match_is_read_as_a_list_of_weak_or_strong_tags() {
    let page = nightjar_ui::asset("/").expect("a page");
    for value in [
        "*",
        page.etag,
        &format!("W/{}", page.etag),
        &format!("\"x\", {} , \"y\"", page.etag),
    ] {
        assert!(page.matches(value), "{value}");
    }
    for value in ["", "\"x\"", page.etag.trim_matches('"'), "W/"] {
        assert!(!page.matches(value), "{value}");
    }
}

#[test]
fn no_page_has_inline_code_or_styles() {
    for path in nightjar_ui::paths().filter(|p| p.ends_with(".html")) {
        let html = text(&nightjar_ui::asset(path).expect("listed"));
        assert!(
            !html.contains("<style") && !html.contains(" style=") && !html.contains(" onclick="),
            "{path}"
        );
        for script in html.split("<script").skip(1) {
            let (tag, rest) = script.split_once('>').expect("a closed tag");
            assert!(tag.contains("src="), "{path}: a script without src");
            assert!(
                rest.trim_start().starts_with("</script>"),
                "{path}: an inline script"
            );
        }
    }
}

#[test]
fn a_built_dashboard_is_small_and_keeps_the_mqtt_client_to_its_page() {
    if !nightjar_ui::built() {
        assert_eq!(nightjar_ui::paths().collect::<Vec<_>>(), ["index.html"]);
        return;
    }
    let html = text(&nightjar_ui::asset("/").expect("a page"));
    assert!(!html.contains("/mqtt-"), "the first page loads MQTT.js");
    let mut first = 0;
    for path in nightjar_ui::paths().filter(|p| html.contains(*p)) {
        first += nightjar_ui::asset(path).expect("listed").gzip.len();
    }
    assert!(
        first > 10_000 && first < 60_000,
        "the files that the page names have {first} bytes gzipped"
    );
    let all: usize = nightjar_ui::paths()
        .map(|p| nightjar_ui::asset(p).expect("listed").gzip.len())
        .sum();
    assert!(all < 450_000, "{all} bytes in the binary");
}
