//! Whether NVIDIA's driver is there, asked before burn's CUDA backend is: that one panics where the driver
//! cannot be loaded, fails to start or has no GPU of that number.

use anyhow::{Result, bail, ensure};

use super::DeviceSpec;

/// What the backend looks for, and what the driver's packages install.
const NAMES: [&std::ffi::CStr; 2] = [c"libcuda.so.1", c"libcuda.so"];

/// What became of asking the driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Driver {
    /// There is no such library.
    Absent,
    /// It answers this call with this error.
    Fails(&'static str, i32),
    /// It sees so many GPUs.
    Sees(usize),
}

/// That the driver sees the GPU `index`; on systems where it is not looked for, nothing is found wrong.
///
/// # Errors
///
/// One sentence on what is missing and what to do.
pub(super) fn check(device: DeviceSpec, index: usize) -> Result<()> {
    #[cfg(unix)]
    verdict(ask(&NAMES), device, index)?;
    let _ = (device, index);
    Ok(())
}

fn verdict(driver: Driver, device: DeviceSpec, index: usize) -> Result<()> {
    match driver {
        Driver::Absent => bail!(
            "device `{device}` needs NVIDIA's driver, and this machine has no {}: install the driver, after \
             which `nvidia-smi` lists the GPUs, or use --device flex",
            NAMES[0].to_string_lossy()
        ),
        Driver::Fails(call, code) => bail!(
            "device `{device}` cannot be used: NVIDIA's driver is installed, but {call} fails with error {code} \
             (100 is no GPU, 803 a driver that does not fit the kernel module): see what `nvidia-smi` says, or use \
             --device flex"
        ),
        Driver::Sees(count) => ensure!(
            index < count,
            "device `{device}` does not exist: NVIDIA's driver shows this process {count} GPU{}, counted from 0 \
             (CUDA_VISIBLE_DEVICES hides others)",
            if count == 1 { "" } else { "s" }
        ),
    }
    Ok(())
}

/// Loads the first of these libraries that is there, starts it and counts its GPUs.
#[cfg(unix)]
#[allow(
    unsafe_code,
    reason = "a library that may be absent can only be asked through dlopen"
)]
fn ask(names: &[&std::ffi::CStr]) -> Driver {
    use std::ffi::{c_int, c_uint};

    // SAFETY: names are C strings. Loading the driver runs what it does at its start, as burn's backend would. It
    // stays loaded, so that the functions found in it stay valid.
    let library = names
        .iter()
        .map(|name| unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_NOW) })
        .find(|library| !library.is_null());
    let Some(library) = library else {
        return Driver::Absent;
    };
    // SAFETY: `library` is loaded and the names are C strings.
    let find = |name: &std::ffi::CStr| unsafe { libc::dlsym(library, name.as_ptr()) };
    let (init, count) = (find(c"cuInit"), find(c"cuDeviceGetCount"));
    if init.is_null() || count.is_null() {
        return Driver::Absent;
    }
    // SAFETY: these are the signatures in CUDA's driver API, the same in all its versions.
    let (init, count) = unsafe {
        (
            std::mem::transmute::<*mut libc::c_void, extern "C" fn(c_uint) -> c_int>(init),
            std::mem::transmute::<*mut libc::c_void, extern "C" fn(*mut c_int) -> c_int>(count),
        )
    };
    match init(0) {
        0 => {}
        code => return Driver::Fails("cuInit", code),
    }
    let mut found = 0;
    match count(&mut found) {
        0 => Driver::Sees(usize::try_from(found).unwrap_or(0)),
        code => Driver::Fails("cuDeviceGetCount", code),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_one_sentence() {
        let said = |driver, index| {
            let error = verdict(driver, DeviceSpec::Cuda(index), index);
            error.unwrap_err().to_string()
        };
        let absent = said(Driver::Absent, 0);
        assert!(
            absent.contains("`cuda:0` needs NVIDIA's driver"),
            "{absent}"
        );
        assert!(absent.contains("no libcuda.so.1"), "{absent}");
        let fails = said(Driver::Fails("cuInit", 100), 1);
        assert!(fails.contains("cuInit fails with error 100"), "{fails}");
        let beyond = said(Driver::Sees(2), 2);
        assert!(beyond.contains("shows this process 2 GPUs"), "{beyond}");
        assert!(said(Driver::Sees(0), 0).contains("0 GPUs"));
        for sentence in [absent, fails, beyond] {
            assert!(!sentence.contains('\n'), "{sentence}");
        }
        assert!(verdict(Driver::Sees(2), DeviceSpec::Cuda(1), 1).is_ok());
    }

    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    #[test]
    fn a_library_that_is_not_there_or_no_driver_is_absent() {
        assert_eq!(ask(&[c"libno-such-driver.so.1"]), Driver::Absent);
        // It can be loaded everywhere, and has no function of the driver.
        assert_eq!(ask(&[c"libm.so.6"]), Driver::Absent);
    }

    /// What the check says of this machine is what the kernel's driver says.
    #[cfg(target_os = "linux")]
    #[test]
    fn a_machine_without_the_kernel_module_has_no_gpu() {
        if std::path::Path::new("/proc/driver/nvidia/version").exists() {
            return;
        }
        assert!(check(DeviceSpec::Cuda(0), 0).is_err());
    }
}
