//! Why a port cannot be had, each with what to do about it.

use thiserror::Error;

use crate::errno::Errno;

/// Why a port cannot be had.
#[derive(Debug, Error)]
pub enum PortError {
    /// A PCI device that was not named at the start.
    #[error("PCI device {0} was not given to the EAL at its start: only devices named there are touched")]
    NotAllowed(String),
    /// A PCI device that no driver took.
    #[error(
        "no DPDK driver took PCI device {0}: bind it to vfio-pci (dpdk-devbind.py -b vfio-pci {0}) and check that \
         the address is right"
    )]
    NotProbed(String),
    /// A second handle to one port.
    #[error("device {0} is open already")]
    AlreadyOpen(String),
    /// No driver of that name.
    #[error("no driver is there for device `{0}`: look at its spelling and that the driver is installed")]
    NoDriver(String),
    /// `iface=` is missing.
    #[error("device `{device}` needs the interface it sits on: write {device},iface=NAME")]
    NoInterfaceGiven {
        /// The device.
        device: String,
    },
    /// `iface=` names nothing.
    #[error("device `{device}`: there is no interface `{iface}` in this network namespace")]
    NoInterface {
        /// The device.
        device: String,
        /// The interface.
        iface: String,
    },
    /// Raw sockets are refused.
    #[error("device `{device}` needs CAP_NET_RAW: run as root or grant the capability")]
    NotPermitted {
        /// The device.
        device: String,
    },
    /// The driver refused the device.
    #[error("device `{device}` cannot be used: {errno}; the lines that DPDK wrote to stderr say more")]
    Attach {
        /// The device.
        device: String,
        /// The driver's reason.
        errno: Errno,
    },
    /// More queues than there are, or none.
    #[error("port {device}: {wanted} {direction} queues asked for, it has 1 to {max}")]
    QueueCount {
        /// The device.
        device: String,
        /// "receive" or "transmit".
        direction: &'static str,
        /// As asked for.
        wanted: u16,
        /// What there is.
        max: u16,
    },
    /// An MTU that the port does not offer.
    #[error("port {device}: an MTU of {mtu} asked for, at most {max} is possible")]
    Mtu {
        /// The device.
        device: String,
        /// As asked for.
        mtu: u16,
        /// What is possible.
        max: u16,
    },
    /// Frames longer than an mbuf on a port that cannot split them.
    #[error(
        "port {device}: frames of {frame} bytes do not fit mbufs of {data_room} and the port cannot split them: \
         use a smaller MTU or a larger data room"
    )]
    MbufTooSmall {
        /// The device.
        device: String,
        /// Longest frame.
        frame: u32,
        /// What an mbuf holds.
        data_room: u16,
    },
    /// A table that the port cannot express.
    #[error("port {device}: a steering table of {len} places does not fit the port's {reta_size}")]
    RetaSize {
        /// The device.
        device: String,
        /// As asked for.
        len: usize,
        /// What there is.
        reta_size: u16,
    },
    /// A second start.
    #[error("port {0} was started before: drop it and its queues, and open it anew")]
    AlreadyStarted(String),
    /// Anything else.
    #[error("port {device}: cannot {what}: {errno}")]
    Operation {
        /// The device.
        device: String,
        /// What was tried.
        what: &'static str,
        /// The driver's reason.
        errno: Errno,
    },
}
