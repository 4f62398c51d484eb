//! Choosing a server.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use weir::internals::Servers;

type Policy = fn(usize) -> Servers;

const POLICIES: [(&str, Policy); 5] = [
    ("round_robin", Servers::round_robin),
    ("least_connections", Servers::least_connections),
    ("random", Servers::random),
    ("peak_ewma", Servers::peak_ewma),
    ("hash", Servers::hash),
];

/// One upstream that a worker does nothing but choose for: all that it looks at stays in the nearest caches.
fn one_upstream(criterion: &mut Criterion) {
    for (name, policy) in POLICIES {
        let mut group = criterion.benchmark_group(name);
        for count in [4, 100, 1000] {
            let mut servers = policy(count);
            group.bench_with_input(BenchmarkId::from_parameter(count), &(), |bencher, ()| {
                bencher.iter(|| black_box(servers.pick()));
            });
        }
        group.finish();
    }
}

/// So many upstreams in turn that none is still in the nearest caches when it is looked at again, as after the work on
/// other requests.
fn many_upstreams(criterion: &mut Criterion) {
    for (name, policy) in POLICIES {
        let mut group = criterion.benchmark_group(format!("{name}, cold"));
        for count in [100, 1000] {
            let mut upstreams: Vec<_> = (0..50_000 / count).map(|_| policy(count)).collect();
            let mut turn = 0;
            group.bench_with_input(BenchmarkId::from_parameter(count), &(), |bencher, ()| {
                bencher.iter(|| {
                    turn = (turn + 1) % upstreams.len();
                    black_box(upstreams[turn].pick())
                });
            });
        }
        group.finish();
    }
}

/// What a start or a reload pays for each upstream with `hash`.
fn building(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("table for hash");
    for count in [4, 100, 1000] {
        group.bench_with_input(BenchmarkId::from_parameter(count), &(), |bencher, ()| {
            bencher.iter(|| black_box(Servers::hash(count)));
        });
    }
    group.finish();
}

criterion_group!(benches, one_upstream, many_upstreams, building);
criterion_main!(benches);
