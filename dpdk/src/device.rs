//! How a port's device is named in the configuration: a PCI address, or a virtual device with arguments.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// A device, parsed but not looked up.
///
/// `0000:01:00.0`, `01:00.1,arg=value` are PCI devices; `net_af_packet0,iface=lan0` is a virtual one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    bus: Bus,
    name: String,
    args: String,
}

/// Why a text names no device.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum DeviceError {
    /// Nothing before the first comma.
    #[error(
        "the device is empty; give a PCI address (0000:01:00.0) or a virtual device (net_af_packet0,iface=lan0)"
    )]
    Empty,
    /// Neither a PCI address nor a driver's name with a number.
    #[error(
        "`{0}` is neither a PCI address (0000:01:00.0) nor a virtual device: those are a driver's name and a number, \
         like net_af_packet0,iface=lan0"
    )]
    Unknown(String),
    /// A character that EAL arguments cannot carry.
    #[error("device `{0}` holds a space or a control character, which device arguments cannot carry")]
    BadCharacter(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bus {
    Pci,
    Virtual,
}

/// RTE_DEV_NAME_MAX_LEN is 64 with the final zero.
const NAME_MAX: usize = 63;

impl Device {
    pub(crate) fn bus(&self) -> Bus {
        self.bus
    }

    /// The name that DPDK knows the device by.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What follows the name's comma; empty if nothing does.
    pub(crate) fn args(&self) -> &str {
        &self.args
    }

    /// The value of one argument.
    pub fn arg(&self, key: &str) -> Option<&str> {
        self.args.split(',').find_map(|arg| arg.split_once('=').filter(|(k, _)| *k == key).map(|(_, v)| v))
    }

    /// True for a PCI address. Those must be in [`EalConfig::devices`](crate::EalConfig::devices): a
    /// device that is not named there is never touched.
    pub fn is_pci(&self) -> bool {
        self.bus == Bus::Pci
    }
}

impl FromStr for Device {
    type Err = DeviceError;

    fn from_str(text: &str) -> Result<Self, DeviceError> {
        if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err(DeviceError::BadCharacter(text.escape_debug().to_string()));
        }
        let (name, args) = text.split_once(',').unwrap_or((text, ""));
        if name.is_empty() {
            return Err(DeviceError::Empty);
        }
        if let Some(name) = parse_pci(name) {
            return Ok(Self { bus: Bus::Pci, name, args: args.to_owned() });
        }
        if is_virtual(name) {
            return Ok(Self { bus: Bus::Virtual, name: name.to_owned(), args: args.to_owned() });
        }
        Err(DeviceError::Unknown(name.to_owned()))
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        if self.args.is_empty() { Ok(()) } else { write!(f, ",{}", self.args) }
    }
}

/// `[domain:]bus:device.function` in hexadecimal, written out in full as DPDK does.
fn parse_pci(text: &str) -> Option<String> {
    let (address, function) = text.rsplit_once('.')?;
    let mut parts = address.rsplit(':');
    let device = hex(parts.next()?, 2)?;
    let bus = hex(parts.next()?, 2)?;
    let domain = parts.next().map_or(Some(0), |domain| hex(domain, 8))?;
    let function = hex(function, 1).filter(|f| *f < 8)?;
    if parts.next().is_some() || device >= 32 {
        return None;
    }
    Some(format!("{domain:04x}:{bus:02x}:{device:02x}.{function:x}"))
}

fn hex(text: &str, digits_max: usize) -> Option<u32> {
    let valid = !text.is_empty() && text.len() <= digits_max && text.bytes().all(|b| b.is_ascii_hexdigit());
    valid.then(|| u32::from_str_radix(text, 16).ok()).flatten()
}

/// Virtual devices are `net_<driver><number or word>`; the EAL finds the driver by the name's beginning.
fn is_virtual(name: &str) -> bool {
    let known = name.starts_with("net_") || name.starts_with("eth_") || name.starts_with("virtio_user");
    known
        && name.len() <= NAME_MAX
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pci_addresses_are_written_out_in_full() {
        for (text, name) in [
            ("0000:01:00.0", "0000:01:00.0"),
            ("01:00.1", "0000:01:00.1"),
            ("10000:E1:1f.7", "10000:e1:1f.7"),
            ("1:2.3", "0000:01:02.3"),
        ] {
            let device: Device = text.parse().unwrap();
            assert!(device.is_pci(), "{text}");
            assert_eq!(device.name(), name);
        }
    }

    #[test]
    fn arguments_are_kept_and_can_be_asked_for() {
        let device: Device = "net_af_packet0,iface=lan0,qpairs=2".parse().unwrap();
        assert!(!device.is_pci());
        assert_eq!(device.name(), "net_af_packet0");
        assert_eq!(device.args(), "iface=lan0,qpairs=2");
        assert_eq!(device.arg("iface"), Some("lan0"));
        assert_eq!(device.arg("face"), None);
        assert_eq!(device.to_string(), "net_af_packet0,iface=lan0,qpairs=2");
        assert_eq!("01:00.0,a=1".parse::<Device>().unwrap().to_string(), "0000:01:00.0,a=1");
    }

    #[test]
    fn what_names_no_device_says_why() {
        assert_eq!("".parse::<Device>(), Err(DeviceError::Empty));
        assert_eq!(",iface=lan0".parse::<Device>(), Err(DeviceError::Empty));
        for text in
            ["eth0", "lan", "0000:01:20.0", "01:00.8", "0:0:0:0.0", "x:00.0", "--vdev=net_null0", "net_é"]
        {
            assert_eq!(text.parse::<Device>(), Err(DeviceError::Unknown(text.to_owned())), "{text}");
        }
        assert!(matches!("net_null0 -m 1".parse::<Device>(), Err(DeviceError::BadCharacter(_))));
        assert!(matches!("net_null0\0".parse::<Device>(), Err(DeviceError::BadCharacter(_))));
    }
}
