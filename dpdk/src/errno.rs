//! DPDK reports failures in two ways, `-errno` or -1 with `rte_errno` set; here both become an [`Errno`].

use std::ffi::CStr;
use std::fmt;

/// An error number as DPDK gave it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Errno(i32);

impl Errno {
    /// No such file or device.
    pub const NO_ENTRY: Self = Self(2);
    /// Not enough memory.
    pub const NO_MEMORY: Self = Self(12);
    /// Bad address.
    pub const BAD_ADDRESS: Self = Self(14);
    /// The name is taken.
    pub const EXISTS: Self = Self(17);
    /// No such device.
    pub const NO_DEVICE: Self = Self(19);
    /// A value was refused.
    pub const INVALID: Self = Self(22);
    /// The driver cannot do this.
    pub const NOT_SUPPORTED: Self = Self(95);
    /// The EAL was initialised before.
    pub const ALREADY: Self = Self(114);

    /// From a call that answers with `-errno`. The sign is not relied on.
    pub(crate) fn from_return(value: i32) -> Self {
        Self(value.saturating_abs())
    }

    /// From a call that answers -1 or null and leaves the number in `rte_errno`. To be read after a
    /// failure only: after a success it holds whatever an inner call left there.
    pub(crate) fn last() -> Self {
        // SAFETY: reads a thread-local integer.
        Self(unsafe { dpdk_sys::us_errno() })
    }

    /// Zero or a positive value is a success, else `-errno`.
    pub(crate) fn check(value: i32) -> Result<i32, Self> {
        if value < 0 { Err(Self::from_return(value)) } else { Ok(value) }
    }

    /// The number itself.
    pub fn number(self) -> i32 {
        self.0
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // SAFETY: returns a static or thread-local string that lives until this thread's next call.
        let text = unsafe { CStr::from_ptr(dpdk_sys::rte_strerror(self.0)) };
        write!(f, "{} (errno {})", text.to_string_lossy(), self.0)
    }
}

impl fmt::Debug for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
