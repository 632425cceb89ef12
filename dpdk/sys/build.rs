//! Finds DPDK through pkg-config, compiles the shim and generates the bindings.
//!
//! What is missing is reported as one line that says what to install. There is no stub fallback: a
//! firewall that links against nothing would look like one that works.

use std::env;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The oldest release whose API the `dpdk` crate is written against (Debian 12 ships it).
const OLDEST_DPDK: &str = "22.11";

/// Libraries whose symbols are used. Drivers are plug-ins that the EAL loads by itself; `net_ring` is
/// here for its own API only (ports made of rings, for tests).
const LIBRARIES: &[&str] = &["ethdev", "mbuf", "mempool", "eal", "ring", "net_ring"];

const FUNCTIONS: &[&str] = &[
    "us_.*",
    "rte_eal_hotplug_add",
    "rte_eal_hotplug_remove",
    "rte_eal_init",
    "rte_eth_dev_adjust_nb_rx_tx_desc",
    "rte_eth_dev_close",
    "rte_eth_dev_configure",
    "rte_eth_dev_get_port_by_name",
    "rte_eth_dev_info_get",
    "rte_eth_dev_mac_addr_add",
    "rte_eth_dev_mac_addr_remove",
    "rte_eth_dev_get_mtu",
    "rte_eth_dev_rss_reta_update",
    "rte_eth_dev_socket_id",
    "rte_eth_dev_start",
    "rte_eth_dev_stop",
    "rte_eth_from_rings",
    "rte_eth_macaddr_get",
    "rte_eth_promiscuous_disable",
    "rte_eth_promiscuous_enable",
    "rte_eth_promiscuous_get",
    "rte_eth_rx_queue_setup",
    "rte_eth_stats_get",
    "rte_eth_stats_reset",
    "rte_eth_tx_queue_setup",
    "rte_free",
    "rte_get_tsc_hz",
    "rte_malloc",
    "rte_mem_virt2memseg",
    "rte_mempool_avail_count",
    "rte_mempool_in_use_count",
    "rte_pktmbuf_free_bulk",
    "rte_pktmbuf_pool_create",
    "rte_ring_create",
    "rte_ring_free",
    "rte_socket_id",
    "rte_strerror",
    "rte_thread_register",
    "rte_thread_unregister",
    "rte_version",
];

const CONSTANTS: &[&str] = &["US_.*", "RTE_MAX_LCORE", "RTE_MAX_ETHPORTS", "RTE_MEMPOOL_CACHE_MAX_SIZE"];

/// Only pointers to these are handled, so they are declared without a layout; an mbuf's fields are read
/// through the offsets in `wrapper.h`.
const OPAQUE: &[&str] = &["rte_mbuf", "rte_mempool", "rte_ring", "rte_device", "rte_memseg_list"];

fn main() {
    if let Err(error) = run() {
        // One line, as cargo shows it (`error: dpdk-sys@…: …`), and it then ends the build by itself.
        println!("cargo::error={}", error.to_string().replace('\n', "; "));
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    for file in ["build.rs", "wrapper.h", "shim.h", "shim.c"] {
        println!("cargo::rerun-if-changed={file}");
    }
    for variable in ["LIBCLANG_PATH", "CLANG_PATH", "PKG_CONFIG_PATH"] {
        println!("cargo::rerun-if-env-changed={variable}");
    }
    let library = pkg_config::Config::new()
        .atleast_version(OLDEST_DPDK)
        .cargo_metadata(false)
        .probe("libdpdk")
        .map_err(|error| missing_dpdk(&error))?;
    let flags = header_flags(&library)?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    pin_libclang()?;
    compile_shim(&library, &flags)?;
    generate(&library, &flags, &out)?;

    for path in &library.link_paths {
        println!("cargo::rustc-link-search=native={}", path.display());
    }
    for name in LIBRARIES {
        println!("cargo::rustc-link-lib=dylib=rte_{name}");
    }
    let include = env::join_paths(&library.include_paths)?;
    println!("cargo::metadata=include={}", include.display());
    println!("cargo::metadata=version={}", library.version);
    Ok(())
}

fn missing_dpdk(error: &pkg_config::Error) -> String {
    let said = match error {
        pkg_config::Error::Command { .. } => {
            return "pkg-config does not run; install it: apt-get install pkg-config libdpdk-dev".to_owned();
        }
        pkg_config::Error::ProbeFailure { output, .. } | pkg_config::Error::Failure { output, .. } => {
            String::from_utf8_lossy(&output.stderr).lines().last().unwrap_or_default().to_owned()
        }
        other => other.to_string(),
    };
    format!(
        "DPDK {OLDEST_DPDK} or newer was not found ({said}); install it: apt-get install libdpdk-dev, or set \
         PKG_CONFIG_PATH to where libdpdk.pc is"
    )
}

/// The compiler flags that the pkg-config crate drops, without which the headers do not compile.
fn header_flags(library: &pkg_config::Library) -> Result<Vec<String>, Box<dyn Error>> {
    let pkg_config = env::var("PKG_CONFIG").unwrap_or_else(|_| "pkg-config".to_owned());
    let output = Command::new(pkg_config).args(["--cflags", "libdpdk"]).output()?;
    let text = String::from_utf8(output.stdout)?;
    let mut flags: Vec<String> = library.include_paths.iter().map(|p| format!("-I{}", p.display())).collect();
    flags.extend(["-include".to_owned(), "rte_config.h".to_owned()]);
    flags.extend(text.split_whitespace().filter(|flag| flag.starts_with("-m")).map(str::to_owned));
    Ok(flags)
}

/// Makes bindgen load the libclang that belongs to the `clang` on the path. With two versions installed
/// it would take the newer library and the older builtin headers, which do not fit each other.
fn pin_libclang() -> Result<(), Box<dyn Error>> {
    const INSTALL: &str = "install it: apt-get install clang libclang-dev, or set LIBCLANG_PATH";
    if env::var_os("LIBCLANG_PATH").is_some() {
        return Ok(());
    }
    let clang = env::var("CLANG_PATH").unwrap_or_else(|_| "clang".to_owned());
    let output = Command::new(&clang)
        .arg("-print-resource-dir")
        .output()
        .map_err(|error| format!("`{clang}` does not run ({error}), which bindgen needs; {INSTALL}"))?;
    if !output.status.success() {
        return Err(format!("`{clang}` failed ({}), which bindgen needs; {INSTALL}", output.status).into());
    }
    let resources = PathBuf::from(String::from_utf8(output.stdout)?.trim());
    // …/llvm-14/lib/clang/14.0.6 → …/llvm-14/lib
    let directory = resources.ancestors().nth(2).unwrap_or(Path::new("")).to_owned();
    if !has_libclang(&directory) {
        return Err(format!("libclang was not found in {}; {INSTALL}", directory.display()).into());
    }
    // SAFETY: a build script has one thread, so nothing reads the environment meanwhile.
    #[allow(unsafe_code)]
    unsafe {
        env::set_var("LIBCLANG_PATH", directory);
    }
    Ok(())
}

fn has_libclang(directory: &Path) -> bool {
    let Ok(entries) = directory.read_dir() else { return false };
    entries.flatten().any(|entry| {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        name.starts_with("libclang.so") || name.starts_with("libclang-") && name.contains(".so")
    })
}

fn compile_shim(library: &pkg_config::Library, flags: &[String]) -> Result<(), Box<dyn Error>> {
    let mut build = cc::Build::new();
    build.file("shim.c").opt_level(3).warnings(true).includes(&library.include_paths);
    for flag in flags {
        build.flag(flag);
    }
    build.try_compile("us_dpdk_shim").map_err(|error| format!("shim.c did not compile: {error}"))?;
    Ok(())
}

fn generate(library: &pkg_config::Library, flags: &[String], out: &Path) -> Result<(), Box<dyn Error>> {
    let mut builder = bindgen::builder()
        .header("wrapper.h")
        .clang_args(flags)
        .use_core()
        .generate_comments(false)
        .layout_tests(true)
        .derive_debug(false)
        .derive_default(false)
        .prepend_enum_name(false)
        .default_enum_style(bindgen::EnumVariation::ModuleConsts);
    for function in FUNCTIONS {
        builder = builder.allowlist_function(function);
    }
    for constant in CONSTANTS {
        builder = builder.allowlist_var(constant);
    }
    builder = builder.allowlist_type("us_.*_layout").blocklist_item("US_PER_S");
    for name in OPAQUE {
        builder = builder.blocklist_type(name).raw_line(format!(
            "#[repr(C)] pub struct {name} {{ _opaque: [u8; 0], _pinned: core::marker::PhantomData<*mut u8> }}"
        ));
    }
    let bindings = builder.generate().map_err(|error| {
        format!("bindgen could not read the headers of DPDK {}: {error}", library.version)
    })?;
    bindings.write_to_file(out.join("bindings.rs"))?;
    Ok(())
}
