//! The costs as bars, drawn as SVG without any library: text and rectangles.

use std::fmt::Write as _;

/// The costs of one workload.
pub struct Bars {
    /// Its name.
    pub workload: String,
    /// Broker and CPU microseconds per message.
    pub costs: Vec<(String, f64)>,
}

const WIDTH: f64 = 900.0;
const LEFT: f64 = 110.0;
const RIGHT: f64 = 100.0;
const BAR: f64 = 16.0;
const GAP: f64 = 34.0;

/// One group of bars for each workload, on a logarithmic scale: shorter is cheaper.
pub fn draw(workloads: &[Bars]) -> String {
    let values = || {
        workloads
            .iter()
            .flat_map(|bars| bars.costs.iter().map(|(_, cost)| *cost))
            .filter(|cost| cost.is_finite() && *cost > 0.0)
    };
    let (least, most) = (
        values().fold(f64::INFINITY, f64::min),
        values().fold(0.0, f64::max),
    );
    // A decade begins left of the least, so that its bar can be seen.
    let (low, high) = (least.log10().floor(), most.log10().ceil());
    let span = (high - low).max(1.0);
    let x = |cost: f64| LEFT + (cost.log10() - low) / span * (WIDTH - LEFT - RIGHT);
    let rows: usize = workloads.iter().map(|bars| bars.costs.len()).sum();
    let height = 60.0 + rows as f64 * BAR + workloads.len() as f64 * GAP;
    let mut svg = String::new();
    let mut add = |text: std::fmt::Arguments<'_>| {
        svg.write_fmt(text)
            .expect("writing to a String cannot fail");
        svg.push('\n');
    };
    add(format_args!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" font-size=\"12\">"
    ));
    add(format_args!(
        "<rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#fff\"/>"
    ));
    add(format_args!(
        "<text x=\"10\" y=\"22\" font-size=\"15\">CPU microseconds of the broker per delivered message (logarithmic; shorter is cheaper)</text>"
    ));
    let mut y = 44.0;
    for bars in workloads {
        y += GAP - 14.0;
        add(format_args!(
            "<text x=\"10\" y=\"{y}\" font-weight=\"bold\">{}</text>",
            escaped(&bars.workload)
        ));
        y += 6.0;
        for (broker, cost) in &bars.costs {
            let fill = if broker == "Nightjar" {
                "#d9662b"
            } else {
                "#8a9ba8"
            };
            let width = (x(*cost) - LEFT).max(1.0);
            add(format_args!(
                "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text><rect x=\"{LEFT}\" y=\"{y}\" width=\"{width:.1}\" height=\"{}\" fill=\"{fill}\"/><text x=\"{:.1}\" y=\"{}\">{}</text>",
                LEFT - 6.0,
                y + 12.0,
                escaped(broker),
                BAR - 3.0,
                LEFT + width + 5.0,
                y + 12.0,
                figure(*cost),
            ));
            y += BAR;
        }
        y += 14.0;
    }
    add(format_args!("</svg>"));
    svg
}

fn figure(cost: f64) -> String {
    if cost < 10.0 {
        format!("{cost:.2}")
    } else {
        format!("{cost:.0}")
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cheaper_broker_has_a_shorter_bar() {
        let bars = Bars {
            workload: "a -> b".to_owned(),
            costs: vec![("Nightjar".to_owned(), 0.3), ("other".to_owned(), 30.0)],
        };
        let svg = draw(&[bars]);
        assert!(svg.contains("a -&gt; b") && svg.ends_with("</svg>\n"));
        let widths: Vec<f64> = svg
            .split("width=\"")
            .skip(2)
            .filter_map(|rest| rest.split('"').next()?.parse().ok())
            .collect();
        assert!(widths.len() == 2 && widths[0] < widths[1], "{widths:?}");
    }
}
