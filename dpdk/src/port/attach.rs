//! Looking a device up, creating a virtual one, and finding out why that failed.

use std::ffi::{CStr, CString};

use crate::device::Device;
use crate::errno::Errno;
use crate::port::PortError;

pub(super) const VDEV_BUS: &CStr = c"vdev";

pub(super) fn find(name: &str) -> Option<u16> {
    let name = CString::new(name).ok()?;
    let mut id = 0;
    // SAFETY: the EAL runs (the caller holds an `Eal`); the name is zero-terminated.
    let result = unsafe { dpdk_sys::rte_eth_dev_get_port_by_name(name.as_ptr(), &mut id) };
    (result == 0).then_some(id)
}

/// Creates a virtual device. Under the control lock.
pub(super) fn attach(device: &Device) -> Result<(), PortError> {
    let (Ok(name), Ok(args)) = (CString::new(device.name()), CString::new(device.args())) else {
        return Err(PortError::Attach { device: device.to_string(), errno: Errno::INVALID });
    };
    // SAFETY: the EAL runs and the control lock is held; all strings are zero-terminated and copied.
    let result = unsafe { dpdk_sys::rte_eal_hotplug_add(VDEV_BUS.as_ptr(), name.as_ptr(), args.as_ptr()) };
    Errno::check(result).map(drop).map_err(|errno| explain(device, errno))
}

/// Drivers say little more than "no"; the usual causes can be told apart from here.
fn explain(device: &Device, errno: Errno) -> PortError {
    let name = device.to_string();
    // "Bad address" is what 22.11 answers where no driver knows the name.
    if errno == Errno::NOT_SUPPORTED || errno == Errno::BAD_ADDRESS {
        return PortError::NoDriver(name);
    }
    let sits_on_interface = ["net_af_packet", "eth_af_packet", "net_af_xdp"]
        .iter()
        .any(|driver| device.name().starts_with(driver));
    if !sits_on_interface {
        return PortError::Attach { device: name, errno };
    }
    match device.arg("iface") {
        None => PortError::NoInterfaceGiven { device: device.name().to_owned() },
        Some(iface) if !interface_exists(iface) => {
            PortError::NoInterface { device: name, iface: iface.to_owned() }
        }
        Some(_) if !raw_sockets_permitted() => PortError::NotPermitted { device: name },
        Some(_) => PortError::Attach { device: name, errno },
    }
}

fn any_socket() -> Option<rustix::fd::OwnedFd> {
    use rustix::net::{AddressFamily, SocketType, socket};
    socket(AddressFamily::UNIX, SocketType::DGRAM, None).ok()
}

/// Asks the kernel and not sysfs, which may show another namespace's interfaces.
fn interface_exists(name: &str) -> bool {
    any_socket().is_some_and(|fd| rustix::net::netdevice::name_to_index(fd, name).is_ok())
}

fn raw_sockets_permitted() -> bool {
    use rustix::net::{AddressFamily, SocketType, socket};
    !matches!(socket(AddressFamily::PACKET, SocketType::RAW, None), Err(rustix::io::Errno::PERM))
}
