//! What happens to a vector on its way: checksum, parts, shared memory, sum, step. `cargo bench -p lockstep-proto`; the whole
//! way there and back between processes is `lockstep bench --wire`.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use lockstep_proto::optimizer::{Optimizer, clip};
use lockstep_proto::recipe::OptimizerSettings;
use lockstep_proto::shared::Shared;
use lockstep_proto::{codec, tensors};

/// LeNet's parameters, base's and net6's.
const SIZES: [usize; 3] = [62_006, 418_908, 5_852_170];

fn wire(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("wire");
    for n in SIZES {
        let values: Vec<f32> = (0..n).map(|i| (i % 1000) as f32 * 1e-3).collect();
        let mut other = values.clone();
        let id = |name: &str| BenchmarkId::new(name, n);
        group.throughput(Throughput::Bytes(4 * n as u64));
        group.bench_function(id("digest"), |b| b.iter(|| tensors::digest_values(&values)));
        group.bench_function(id("first_not_finite"), |b| b.iter(|| tensors::first_not_finite(&values)));
        group.bench_function(id("parts"), |b| {
            let bytes = tensors::as_bytes(&values);
            let digest = tensors::digest(bytes);
            let mut memory = Vec::new();
            b.iter(|| {
                let mut assembly = tensors::Assembly::reuse(std::mem::take(&mut memory), n);
                for part in tensors::parts(bytes.len()) {
                    assembly.add((part.start / 4) as u64, &bytes[part]).expect("in order");
                }
                memory = assembly.finish(digest).expect("whole");
            });
        });
        if let Ok((shared, _)) = Shared::create(n, 1, [0; 16]) {
            group.bench_function(id("shared write"), |b| b.iter(|| shared.write(0, &values)));
            group.bench_function(id("shared read"), |b| b.iter(|| shared.read(0, &mut other)));
        }
        group.bench_function(id("pack bf16"), |b| b.iter(|| codec::pack(&values, n)));
        group.bench_function(id("add"), |b| b.iter(|| tensors::add_assign(&mut other, &values)));
        group.bench_function(id("norm"), |b| b.iter(|| clip::norm(&values)));
        let settings = OptimizerSettings { momentum: 0.9, ..OptimizerSettings::default() };
        let mut optimizer = Optimizer::new(&settings, n);
        group.bench_function(id("SGD with momentum"), |b| b.iter(|| optimizer.step(1e-9, &values, &mut other)));
    }
    group.finish();
}

criterion_group!(benches, wire);
criterion_main!(benches);
