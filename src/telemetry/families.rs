//! The families of metrics: what each is called, and which shards it is the sum of.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::Hash;
use std::sync::atomic::Ordering;

use super::exposition::{Page, Series};
use super::labels::{
    Handshake, MethodLabel, Outcome, RefusedReason, ReloadResult, Resolving, RetryReason,
    StatusClass,
};
use super::metrics::{Metrics, Names, lock};
use super::shard::HistogramSnapshot;
use super::worker::{RouteKey, Shards, WorkerMetrics};
use crate::semantics::coding::Coding;
use crate::units::UpstreamName;

impl Metrics {
    pub(super) fn write_process_wide(&self, page: &mut Page) {
        let dropped = lock(&self.access_log_dropped).load(Ordering::Relaxed);
        page.counters(
            "weir_access_log_dropped_lines_total",
            "Lines of the access log that were dropped because they could not be written in time.",
            |series| series.counter(&[], dropped),
        );
        page.gauges(
            "weir_build_info",
            "The version that is running.",
            |series| {
                series.gauge(&[("version", env!("CARGO_PKG_VERSION"))], 1.0);
            },
        );
        let config = lock(&self.config).clone();
        page.gauges(
            "weir_config_fallback",
            "Whether the last good config of an earlier process runs, since the file was bad at the start.",
            |series| series.gauge(&[], f64::from(u8::from(config.fallback))),
        );
        page.gauges(
            "weir_config_info",
            "The hash of the config that is running.",
            |series| {
                config
                    .hash
                    .iter()
                    .for_each(|hash| series.gauge(&[("hash", hash)], 1.0));
            },
        );
        page.gauges(
            "weir_config_last_reload_success_timestamp_seconds",
            "When the running config was taken.",
            |series| series.gauge(&[], config.since_seconds),
        );
        page.counters(
            "weir_config_reloads_total",
            "Reloads of the config.",
            |series| {
                for (result, count) in ReloadResult::ALL.into_iter().zip(&self.reloads) {
                    series.counter(&[("result", result.label())], count.load(Ordering::Relaxed));
                }
            },
        );
        page.gauges(
            "weir_config_rolled_back",
            "Whether an earlier config than the file's runs, since it was rolled back.",
            |series| series.gauge(&[], f64::from(u8::from(config.rolled_back))),
        );
        page.gauges(
            "weir_config_states",
            "Configs in memory: the running one, and those before that something is still done by.",
            |series| series.gauge(&[], config.states as f64),
        );
        let numbered = || {
            self.workers
                .iter()
                .enumerate()
                .map(|(number, worker)| (number.to_string(), worker))
        };
        page.counters(
            "weir_connections_handed_over_total",
            "Client connections that a worker accepted and handed to another.",
            |series| {
                numbered().for_each(|(number, worker)| {
                    series.counter(&[("worker", &number)], worker.handed_over.get());
                });
            },
        );
        page.gauges(
            "weir_worker_connections",
            "Open client connections of a worker.",
            |series| {
                numbered().for_each(|(number, worker)| {
                    series.gauge(&[("worker", &number)], worker.connections.get() as f64);
                });
            },
        );
    }

    pub(super) fn write_listeners(&self, page: &mut Page, names: &Names) {
        #[derive(Default)]
        struct Sum {
            connections: i64,
            accepted: u64,
            received: u64,
            sent: u64,
            handshakes: [u64; Handshake::COUNT],
            refused: [u64; RefusedReason::COUNT],
        }
        let sums = self.sum(
            &names.listeners,
            |worker| &worker.listeners,
            |sum: &mut Sum, shard| {
                sum.connections += shard.connections.get();
                sum.accepted += shard.accepted.get();
                sum.received += shard.received.get();
                sum.sent += shard.sent.get();
                add(&mut sum.handshakes, shard.handshakes());
                add(&mut sum.refused, shard.refusals());
            },
        );
        let mut counters = |name, help, value: fn(&Sum) -> u64| {
            page.counters(name, help, |series| {
                for (listen, sum) in &sums {
                    series.counter(&[("listen", listen.as_str())], value(sum));
                }
            });
        };
        counters(
            "weir_bytes_received_total",
            "Bytes received from clients.",
            |sum| sum.received,
        );
        counters("weir_bytes_sent_total", "Bytes sent to clients.", |sum| {
            sum.sent
        });
        counters(
            "weir_connections_accepted_total",
            "Client connections accepted.",
            |sum| sum.accepted,
        );
        page.gauges("weir_connections", "Open client connections.", |series| {
            for (listen, sum) in &sums {
                series.gauge(&[("listen", listen.as_str())], sum.connections as f64);
            }
        });
        page.counters(
            "weir_refused_requests_total",
            "Requests and connections that weir itself refused.",
            |series| {
                for (listen, sum) in &sums {
                    for (reason, count) in RefusedReason::ALL.into_iter().zip(sum.refused) {
                        series.counter(
                            &[("listen", listen.as_str()), ("reason", reason.label())],
                            count,
                        );
                    }
                }
            },
        );
        page.counters(
            "weir_tls_handshakes_total",
            "TLS handshakes with clients.",
            |series| {
                for (listen, sum) in &sums {
                    for (result, count) in Handshake::ALL.into_iter().zip(sum.handshakes) {
                        series.counter(
                            &[("listen", listen.as_str()), ("result", result.label())],
                            count,
                        );
                    }
                }
            },
        );
    }

    pub(super) fn write_routes(&self, page: &mut Page, names: &Names) {
        let durations = self.sum(
            &names.route_names,
            |worker| &worker.durations,
            |sum: &mut HistogramSnapshot, shard| {
                sum.merge(&shard.snapshot());
            },
        );
        page.histograms(
            "weir_request_duration_seconds",
            "From a request's head to the end of its response.",
            |series| {
                for (route, duration) in &durations {
                    series.histogram(&[("route", route.as_str())], duration);
                }
            },
        );
        self.write_compression(page, names);
        type Requests = [[u64; StatusClass::COUNT]; MethodLabel::COUNT];
        let requests = self.sum(
            &names.routes,
            |worker| &worker.routes,
            |sum: &mut Requests, shard| {
                for (sum, more) in sum.iter_mut().zip(shard.requests()) {
                    add(sum, more);
                }
            },
        );
        page.counters(
            "weir_requests_total",
            "Requests answered, by the class of the status.",
            |series| {
                requests
                    .iter()
                    .for_each(|(key, requests)| write_requests(series, key, requests));
            },
        );
    }

    fn write_compression(&self, page: &mut Page, names: &Names) {
        #[derive(Default)]
        struct Sum {
            responses: [u64; Coding::COUNT],
            plain: u64,
            encoded: u64,
            skipped: u64,
        }
        let sums = self.sum(
            &names.compressing,
            |worker| &worker.compressions,
            |sum: &mut Sum, shard| {
                add(&mut sum.responses, shard.responses());
                sum.plain += shard.plain.get();
                sum.encoded += shard.encoded.get();
                sum.skipped += shard.skipped.get();
            },
        );
        page.counters(
            "weir_compressed_responses_total",
            "Responses that were encoded on their way to the client.",
            |series| {
                for (route, sum) in &sums {
                    for (coding, count) in Coding::ALL.into_iter().zip(sum.responses) {
                        let labels = [("route", route.as_str()), ("coding", coding.name())];
                        series.counter(&labels, count);
                    }
                }
            },
        );
        let mut counters = |name, help, value: fn(&Sum) -> u64| {
            page.counters(name, help, |series| {
                for (route, sum) in &sums {
                    series.counter(&[("route", route.as_str())], value(sum));
                }
            });
        };
        counters(
            "weir_compression_input_bytes_total",
            "Bytes of bodies before they were encoded.",
            |sum| sum.plain,
        );
        counters(
            "weir_compression_output_bytes_total",
            "Bytes of encoded bodies.",
            |sum| sum.encoded,
        );
        counters(
            "weir_compression_skipped_total",
            "Responses that were sent as they are, since too many were being encoded.",
            |sum| sum.skipped,
        );
    }

    pub(super) fn write_upstreams(&self, page: &mut Page, names: &Names) {
        let source = lock(&self.servers).clone();
        let mut now = source.map_or_else(Vec::new, |source| source());
        now.sort_by(|a, b| (&a.upstream, &a.server).cmp(&(&b.upstream, &b.server)));
        page.gauges(
            "weir_server_requests_in_flight",
            "Requests that a server has not answered yet.",
            |series| {
                for server in &now {
                    let address = server.server.to_string();
                    let labels = [("upstream", server.upstream.as_str()), ("server", &address)];
                    series.gauge(&labels, f64::from(server.in_flight));
                }
            },
        );
        page.gauges(
            "weir_server_requests_limit",
            "The most requests that a server is given at once, configured or learned.",
            |series| {
                for server in &now {
                    let address = server.server.to_string();
                    let labels = [("upstream", server.upstream.as_str()), ("server", &address)];
                    series.gauge(&labels, server.limit.map_or(f64::INFINITY, f64::from));
                }
            },
        );
        page.gauges(
            "weir_server_up",
            "Whether a server is given new requests.",
            |series| {
                for server in &now {
                    let address = server.server.to_string();
                    let labels = [("upstream", server.upstream.as_str()), ("server", &address)];
                    series.gauge(&labels, f64::from(u8::from(server.up)));
                }
            },
        );

        let resolutions = lock(&self.resolutions).clone();
        page.counters(
            "weir_name_resolutions_total",
            "Times that DNS was asked for a name among the servers.",
            |series| {
                for upstream in &names.resolving {
                    let counts = resolutions.get(upstream).copied().unwrap_or_default();
                    for (result, count) in Resolving::ALL.into_iter().zip(counts) {
                        series.counter(
                            &[("upstream", upstream.as_str()), ("result", result.label())],
                            count,
                        );
                    }
                }
            },
        );
        type Server = ([u64; Outcome::COUNT], HistogramSnapshot);
        let servers = self.sum(
            &names.servers,
            |worker| &worker.servers,
            |sum: &mut Server, shard| {
                add(&mut sum.0, shard.requests());
                sum.1.merge(&shard.response.snapshot());
            },
        );
        page.counters(
            "weir_upstream_requests_total",
            "Attempts on servers, by how they ended.",
            |series| {
                for (key, (outcomes, _)) in &servers {
                    let server = key.server.to_string();
                    for (outcome, count) in Outcome::ALL.into_iter().zip(outcomes) {
                        let labels = [
                            ("upstream", key.upstream.as_str()),
                            ("server", &server),
                            ("outcome", outcome.label()),
                        ];
                        series.counter(&labels, *count);
                    }
                }
            },
        );
        page.histograms(
            "weir_upstream_response_seconds",
            "From an attempt's start to its response head.",
            |series| {
                for (key, (_, response)) in &servers {
                    let server = key.server.to_string();
                    series.histogram(
                        &[("upstream", key.upstream.as_str()), ("server", &server)],
                        response,
                    );
                }
            },
        );
        let queued = self.sum(
            &names.upstreams,
            |worker| &worker.upstreams,
            |sum: &mut HistogramSnapshot, shard| sum.merge(&shard.queued.snapshot()),
        );
        page.histograms(
            "weir_upstream_queue_seconds",
            "How long requests waited for a server with room, those that waited and got one.",
            |series| {
                for (upstream, waits) in &queued {
                    series.histogram(&[("upstream", upstream.as_str())], waits);
                }
            },
        );
        let lengths: BTreeMap<_, _> = now
            .iter()
            .map(|server| (&server.upstream, server.queued))
            .collect();
        page.gauges(
            "weir_upstream_queue_length",
            "Requests that wait for a server with room.",
            |series| {
                for (upstream, length) in &lengths {
                    series.gauge(&[("upstream", upstream.as_str())], *length as f64);
                }
            },
        );
        type Retries = ([u64; RetryReason::COUNT], u64);
        let retries = self.sum(
            &names.upstreams,
            |worker| &worker.upstreams,
            |sum: &mut Retries, shard| {
                add(&mut sum.0, shard.retries());
                sum.1 += shard.budget_exhausted.get();
            },
        );
        page.counters(
            "weir_upstream_retries_refused_total",
            "Attempts that the retry budget did not allow.",
            |series| {
                for (upstream, (_, refused)) in &retries {
                    series.counter(&[("upstream", upstream.as_str())], *refused);
                }
            },
        );
        page.counters(
            "weir_upstream_retries_total",
            "Attempts after the first one of a request.",
            |series| {
                for (upstream, (counts, _)) in &retries {
                    for (reason, count) in RetryReason::ALL.into_iter().zip(counts) {
                        series.counter(
                            &[("upstream", upstream.as_str()), ("reason", reason.label())],
                            *count,
                        );
                    }
                }
            },
        );
    }

    /// For every declared name the sum over the workers: zero where no worker has counted yet.
    pub(super) fn sum<K: Clone + Ord + Hash, S, V: Default>(
        &self,
        declared: &BTreeSet<K>,
        shards: impl Fn(&WorkerMetrics) -> &Shards<K, S>,
        add: impl Fn(&mut V, &S),
    ) -> BTreeMap<K, V> {
        let mut sums: BTreeMap<K, V> = declared
            .iter()
            .map(|key| (key.clone(), V::default()))
            .collect();
        for worker in &self.workers {
            for (key, shard) in shards(worker).all() {
                if let Some(sum) = sums.get_mut(&key) {
                    add(sum, &shard);
                }
            }
        }
        sums
    }
}

/// All sixty combinations for ten thousand routes would be sixty megabytes a scrape, nearly all of
/// them zero: only those that occurred are written, and the usual one as the zero to start from.
fn write_requests(
    series: &mut Series,
    key: &RouteKey,
    requests: &[[u64; StatusClass::COUNT]; MethodLabel::COUNT],
) {
    for (method, classes) in MethodLabel::ALL.into_iter().zip(requests) {
        for (class, count) in StatusClass::ALL.into_iter().zip(classes) {
            let usual = method == MethodLabel::Get && class == StatusClass::Success;
            if *count > 0 || usual {
                let labels = [
                    ("listen", key.listen.as_str()),
                    ("route", key.route.as_str()),
                    (
                        "upstream",
                        key.upstream.as_ref().map_or("", UpstreamName::as_str),
                    ),
                    ("method", method.label()),
                    ("status", class.label()),
                ];
                series.counter(&labels, *count);
            }
        }
    }
}

pub(super) fn add<const N: usize>(sums: &mut [u64; N], more: [u64; N]) {
    for (sum, more) in sums.iter_mut().zip(more) {
        *sum = sum.wrapping_add(more);
    }
}
