//! The page of a scrape: families of metrics in the Prometheus text format. Each family is turned into text as soon as
//! it is complete, so that ten thousand routes are never in memory twice.

use prometheus::TextEncoder;
use prometheus::proto::{
    Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType,
};

use super::shard::HistogramSnapshot;

/// Names and values of labels.
pub(super) type Labels<'a> = &'a [(&'static str, &'a str)];

/// The text so far.
#[derive(Debug, Default)]
pub(super) struct Page {
    text: String,
}

impl Page {
    pub(super) fn counters(&mut self, name: &str, help: &str, write: impl FnOnce(&mut Series)) {
        self.family(MetricType::COUNTER, name, help, write);
    }

    pub(super) fn gauges(&mut self, name: &str, help: &str, write: impl FnOnce(&mut Series)) {
        self.family(MetricType::GAUGE, name, help, write);
    }

    pub(super) fn histograms(&mut self, name: &str, help: &str, write: impl FnOnce(&mut Series)) {
        self.family(MetricType::HISTOGRAM, name, help, write);
    }

    pub(super) fn into_text(self) -> String {
        self.text
    }

    /// A family without any series is left out, since the format has nothing to say about it.
    fn family(
        &mut self,
        kind: MetricType,
        name: &str,
        help: &str,
        write: impl FnOnce(&mut Series),
    ) {
        let mut series = Series::default();
        write(&mut series);
        if series.metrics.is_empty() {
            return;
        }
        let mut family = MetricFamily::default();
        family.set_name(name.to_owned());
        family.set_help(help.to_owned());
        family.set_field_type(kind);
        family.set_metric(series.metrics);
        if let Err(error) = TextEncoder::new().encode_utf8(&[family], &mut self.text) {
            tracing::error!(%error, metric = name, "cannot write metric");
        }
    }
}

/// The series of one family.
#[derive(Debug, Default)]
pub(super) struct Series {
    metrics: Vec<Metric>,
}

impl Series {
    pub(super) fn counter(&mut self, labels: Labels<'_>, value: u64) {
        self.counter_of(labels, value as f64);
    }

    /// For a counter that counts no whole things, such as seconds.
    pub(super) fn counter_of(&mut self, labels: Labels<'_>, value: f64) {
        let mut counter = Counter::default();
        counter.set_value(value);
        self.metric(labels).set_counter(counter);
    }

    pub(super) fn gauge(&mut self, labels: Labels<'_>, value: f64) {
        let mut gauge = Gauge::default();
        gauge.set_value(value);
        self.metric(labels).set_gauge(gauge);
    }

    pub(super) fn histogram(&mut self, labels: Labels<'_>, value: &HistogramSnapshot) {
        let bucket = |(bound, count)| {
            let mut bucket = Bucket::default();
            bucket.set_upper_bound(bound);
            bucket.set_cumulative_count(count);
            bucket
        };
        let mut histogram = Histogram::default();
        histogram.set_bucket(value.cumulative().map(bucket).collect());
        histogram.set_sample_count(value.count());
        histogram.set_sample_sum(value.sum_seconds());
        self.metric(labels).set_histogram(histogram);
    }

    fn metric(&mut self, labels: Labels<'_>) -> &mut Metric {
        let pair = |(name, value): &(&str, &str)| {
            let mut pair = LabelPair::default();
            pair.set_name((*name).to_owned());
            pair.set_value((*value).to_owned());
            pair
        };
        self.metrics
            .push_mut(Metric::from_label(labels.iter().map(pair).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_labels_are_escaped() {
        let mut page = Page::default();
        page.gauges("up", "Is it?", |series| {
            series.gauge(&[("name", "a\"b\\c\nd")], 1.0)
        });
        assert_eq!(
            page.into_text(),
            "# HELP up Is it?\n# TYPE up gauge\nup{name=\"a\\\"b\\\\c\\nd\"} 1\n"
        );
    }

    #[test]
    fn a_family_without_series_is_left_out() {
        let mut page = Page::default();
        page.counters("nothing_total", "Nothing.", |_| ());
        assert_eq!(page.into_text(), "");
    }
}
