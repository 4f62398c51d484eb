//! Choosing a server.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use weir::internals::Servers;

fn balancing(criterion: &mut Criterion) {
    for (name, policy) in [
        ("round_robin", Servers::round_robin as fn(usize) -> Servers),
        ("least_connections", Servers::least_connections),
    ] {
        let mut group = criterion.benchmark_group(name);
        for count in [2, 10, 100] {
            let mut servers = policy(count);
            group.bench_with_input(BenchmarkId::from_parameter(count), &(), |bencher, ()| {
                bencher.iter(|| black_box(servers.pick()));
            });
        }
        group.finish();
    }
}

criterion_group!(benches, balancing);
criterion_main!(benches);
