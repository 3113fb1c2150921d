//! Where the engine computes: the processor, or a graphics card whose libraries are loaded only when asked for.

use blindsum_engine::{ComputeDevice, EngineError, Precision};
use tch::{Device, Kind};

use super::Result;

/// Loads what the device needs, before the first tensor is made there.
///
/// # Errors
/// Where libtorch's CUDA library cannot be loaded or finds no such card.
pub(super) fn open(device: ComputeDevice) -> Result<Device> {
    let ComputeDevice::Cuda(index) = device else { return Ok(Device::Cpu) };
    load_cuda()?;
    let cards = usize::try_from(tch::Cuda::device_count()).unwrap_or(0);
    if index >= cards {
        let what = format!("device = \"cuda:{index}\": libtorch finds {cards} NVIDIA cards; set device = \"cpu\"");
        return Err(EngineError::Model(what));
    }
    Ok(Device::Cuda(index))
}

/// The number format on this device; every graphics card that libtorch 2.11 supports multiplies bf16 in hardware.
pub(super) fn format(precision: Precision, device: Device) -> Kind {
    let bf16 = precision.uses_bf16() || (precision == Precision::Auto && device != Device::Cpu);
    if bf16 { Kind::BFloat16 } else { Kind::Float }
}

/// The programs are linked with the processor's half of libtorch alone; the other half registers itself when loaded.
#[allow(unsafe_code)]
fn load_cuda() -> Result<()> {
    use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};
    // SAFETY: runs the initialisers of libtorch's own library, found where libtorch itself was found, once, before any
    // tensor is made on a card; the handle is leaked, so nothing of it is ever unloaded.
    let library = unsafe { Library::open(Some("libtorch_cuda.so"), RTLD_NOW | RTLD_GLOBAL) };
    match library {
        Ok(library) => {
            std::mem::forget(library);
            Ok(())
        }
        Err(error) => Err(EngineError::Model(format!(
            "libtorch_cuda.so cannot be loaded ({error}); install PyTorch 2.11.0 with CUDA and put its lib folder into \
             LD_LIBRARY_PATH, or set device = \"cpu\""
        ))),
    }
}
