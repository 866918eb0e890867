//! What `GET /metrics` says, as Prometheus text exposition, <https://prometheus.io/docs/instrumenting/exposition_formats/>.

use std::fmt::Write;

/// Builds the text of `GET /metrics`.
///
/// ```
/// let text = zongji::server::MetricsText::new()
///     .counter("zongji_calls_total", "Calls offered.", 3)
///     .gauge("zongji_calls", "Calls under way.", 1.0)
///     .finish();
/// assert!(text.contains("\nzongji_calls 1\n"));
/// ```
#[derive(Debug, Clone, Default)]
pub struct MetricsText {
    text: String,
}

impl MetricsText {
    /// Nothing yet.
    pub fn new() -> Self {
        MetricsText::default()
    }

    /// A count that only rises; its name ends in `_total`.
    #[must_use]
    pub fn counter(mut self, name: &str, help: &str, value: u64) -> Self {
        self.head(name, help, "counter");
        let _ = writeln!(self.text, "{name} {value}");
        self
    }

    /// A figure that goes up and down.
    #[must_use]
    pub fn gauge(mut self, name: &str, help: &str, value: f64) -> Self {
        self.head(name, help, "gauge");
        let _ = writeln!(self.text, "{name} {value}");
        self
    }

    /// A count split by one label.
    #[must_use]
    pub fn counter_by(mut self, name: &str, help: &str, label: &str, values: &[(&str, u64)]) -> Self {
        self.head(name, help, "counter");
        for (which, value) in values {
            let which = which.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let _ = writeln!(self.text, "{name}{{{label}=\"{which}\"}} {value}");
        }
        self
    }

    /// A histogram: upper bounds, how many fell under each (one more than bounds: the rest), and their sum.
    #[must_use]
    pub fn histogram(mut self, name: &str, help: &str, bounds: &[f64], counts: &[u64], sum: f64) -> Self {
        self.head(name, help, "histogram");
        let mut total = 0;
        for (n, count) in counts.iter().enumerate() {
            total += count;
            let bound = bounds.get(n).map_or_else(|| "+Inf".to_string(), f64::to_string);
            let _ = writeln!(self.text, "{name}_bucket{{le=\"{bound}\"}} {total}");
        }
        let _ = writeln!(self.text, "{name}_sum {sum}\n{name}_count {total}");
        self
    }

    /// The text.
    pub fn finish(self) -> String {
        self.text
    }

    fn head(&mut self, name: &str, help: &str, kind: &str) {
        let help = help.replace('\\', "\\\\").replace('\n', "\\n");
        let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_written_as_prometheus_reads_them() {
        let text = MetricsText::new()
            .counter("a_total", "All\nof it.", 7)
            .counter_by("b_total", "By kind.", "kind", &[("x", 1), ("q\"\\", 2)])
            .gauge("c", "Now.", 0.5)
            .finish();
        assert_eq!(
            text,
            "# HELP a_total All\\nof it.\n# TYPE a_total counter\na_total 7\n\
             # HELP b_total By kind.\n# TYPE b_total counter\nb_total{kind=\"x\"} 1\nb_total{kind=\"q\\\"\\\\\"} 2\n\
             # HELP c Now.\n# TYPE c gauge\nc 0.5\n"
        );
    }
}
