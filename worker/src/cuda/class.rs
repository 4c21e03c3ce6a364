//! What tells one GPU's bits from another's.

#![allow(unsafe_code)] // libraries' versions

use std::env;

use candle_core::cuda_backend::cudarc::driver::CudaContext;
use candle_core::cuda_backend::cudarc::driver::sys::CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT;
use candle_core::cuda_backend::cudarc::{cublas, cudnn};
use candle_core::{Error, Result, bail};

use super::format::Format;
use super::kernels;

/// The version of our kernels and of the table of algorithms. Raise it with any change that moves a bit of a result.
const KERNELS: u32 = 2;

/// NVIDIA's switches, which override in its libraries what a program asks them for.
const OVERRIDES: [&str; 2] = ["NVIDIA_TF32_OVERRIDE", "CUBLAS_EMULATE_SINGLE_PRECISION"];

/// The toolkit's and cuDNN's versions choose the libraries' kernels; the driver only compiles ours, whose instructions have one
/// meaning. cuBLAS promises its bits for one number of multiprocessors, and there is less than the whole GPU where it is shared (MPS, MIG).
/// nvcc puts its own version's exp and log into our kernels, so their text is part of it, too. How images lie follows from the model and the
/// class, unless somebody named it.
pub(super) fn class(
    context: &CudaContext,
    handle: cublas::sys::cublasHandle_t,
    tf32: bool,
    format: Option<Format>,
) -> Result<String> {
    OVERRIDES.iter().try_for_each(|name| check_override(name, env::var_os(name).as_deref()))?;
    let name = context.name().map_err(Error::wrap)?.replace('/', "-");
    let multiprocessors = context.attribute(CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT).map_err(Error::wrap)?;
    let mut cublas = 0;
    // SAFETY: writes one int
    unsafe { cublas::sys::cublasGetVersion_v2(handle, &mut cublas) }.result().map_err(Error::debug)?;
    let dnn = cudnn::result::get_version();
    let (dnn, rest) = (dnn / 10_000, dnn % 10_000);
    let products = if tf32 { "tf32" } else { "f32" };
    let format = format.map_or_else(String::new, |format| format!("-{}", format.name()));
    let blas = format!("{}.{}.{}", cublas / 10_000, cublas / 100 % 100, cublas % 100);
    let dnn = format!("{dnn}.{}.{}", rest / 100, rest % 100);
    let text = kernels::digest();
    Ok(format!("cuda/{name}/{multiprocessors}sm/cublas{blas}/cudnn{dnn}/{products}{format}/kernels{KERNELS}-{text}"))
}

/// With it a worker would compute something else than its class says, and than [`super::Gpu::open`] was asked for.
fn check_override(name: &str, set: Option<&std::ffi::OsStr>) -> Result<()> {
    match set {
        None => Ok(()),
        Some(set) => bail!(
            "{name} is {set:?}, which changes what NVIDIA's libraries compute whatever they are asked for: unset it; --no-tf32 turns \
             TF32 off"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::gpu;
    use super::*;

    #[test]
    fn the_class_names_the_gpu_its_libraries_and_our_kernels() {
        let Some(gpu) = gpu() else { return };
        let parts: Vec<&str> = gpu.class().split('/').collect();
        let [device, _, multiprocessors, cublas, cudnn, products, kernels] = parts[..] else { panic!("{parts:?}") };
        assert_eq!((device, products), ("cuda", "f32"));
        assert!(multiprocessors.strip_suffix("sm").is_some_and(|count| count.parse::<u32>().is_ok_and(|n| n > 0)));
        assert!(cublas.starts_with("cublas1") && cudnn.starts_with("cudnn9."), "{parts:?}");
        let text = kernels.strip_prefix("kernels2-").expect("the kernels' version, then their text");
        assert!(text.len() == 6 && text.bytes().all(|byte| byte.is_ascii_hexdigit()), "{text}");
        // a coordinator takes 160 bytes (coordinator/src/server/limits.rs); a part of an RTX PRO 6000 Blackwell Max-Q Workstation Edition has a
        // name of 67, and a memory format that was asked for 5
        assert!(gpu.class().len() - parts[1].len() + 67 + 5 <= 160, "{}", gpu.class());
    }

    #[test]
    fn a_switch_that_overrides_ours_is_refused() {
        assert!(check_override(OVERRIDES[0], None).is_ok());
        let error = check_override(OVERRIDES[0], Some("0".as_ref())).expect_err("refused").to_string();
        assert!(error.contains("NVIDIA_TF32_OVERRIDE is \"0\"") && error.contains("--no-tf32"), "{error}");
    }
}
