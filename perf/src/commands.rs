//! `perf pktgen` and `perf reflect`: the generator and the ceiling on any ports of DPDK's.

use crate::flows::{FIREWALL, Traffic};
use crate::pktgen::{
    Counts, Drive, Generator, Neighbours, Pace, Percentiles, Plan, PortWire, Side, Sizes, Wire, drive,
};
use crate::rig::{Ground, Result};
use crate::subject::{Macswap, Subject};
use clap::Args;
use dpdk::{Burst, Device, EalConfig};
use serde::Serialize;
use std::time::{Duration, Instant};
use wire::PacketBuf;
use wire::ether::Link;

/// Two ports.
#[derive(Args, Clone, Debug)]
pub struct Ports {
    /// The port on the initiators' side: a PCI address, or `net_memif0,role=client,id=0,socket=/run/lan.sock`.
    #[arg(long)]
    lan: String,
    /// The port on the responders' side.
    #[arg(long)]
    wan: String,
    /// Megabytes of memory for packets.
    #[arg(long, default_value_t = 128)]
    memory_mb: u32,
    /// Without huge pages, for trials.
    #[arg(long)]
    no_huge: bool,
}

/// What to send.
#[derive(Args, Clone, Debug)]
pub struct PktgenArgs {
    #[command(flatten)]
    ports: Ports,
    /// Connections at a time.
    #[arg(long, default_value_t = 100_000)]
    flows: u32,
    /// What they carry; all four kinds unless given.
    #[arg(long, value_delimiter = ',')]
    traffic: Vec<Traffic>,
    /// Bytes of each frame with check sequence, or `imix`.
    #[arg(long, default_value = "64")]
    size: String,
    /// Data packets of a connection before it closes; 0 never does.
    #[arg(long, default_value_t = 0)]
    packets_per_flow: u32,
    /// Connections begun in a second, at most; 0 is no limit.
    #[arg(long, default_value_t = 0.0)]
    new_per_second: f64,
    /// Packets a second, both sides together; 0 is no limit.
    #[arg(long, default_value_t = 0.0)]
    rate: f64,
    /// Packets that may leave at once under a rate.
    #[arg(long, default_value_t = 32)]
    burst: u32,
    /// Seconds.
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// Every how many data packets one is timed; 0 is none.
    #[arg(long, default_value_t = 16)]
    timed_every: u32,
    /// The firewall's and our IPv4 address on the initiators' side: `192.0.2.1,192.0.2.2`. Without it frames
    /// go to 02:00:00:00:00:fe.
    #[arg(long)]
    lan_gateway: Option<String>,
    /// The same on the responders' side.
    #[arg(long)]
    wan_gateway: Option<String>,
    /// One JSON object on the last line.
    #[arg(long)]
    json: bool,
}

/// What `pktgen` says at the end.
#[derive(Debug, Serialize)]
struct Summary {
    seconds: f64,
    counts: Counts,
    unsent: u64,
    lost: u64,
    sent_per_second: f64,
    arrived_per_second: f64,
    opened_per_second: f64,
    latency: Percentiles,
}

/// For the firewall's answer to an ARP request, and for the last packets under way.
const PATIENCE: Duration = Duration::from_secs(2);

fn ground(ports: &Ports) -> Result<(Ground, [Device; 2])> {
    let devices: [Device; 2] = [ports.lan.parse()?, ports.wan.parse()?];
    let huge_pages = if ports.no_huge { dpdk::HugePages::Never } else { dpdk::HugePages::Auto };
    let config = EalConfig {
        memory_mb: ports.memory_mb,
        huge_pages,
        devices: devices.to_vec(),
        ..EalConfig::default()
    };
    Ok((Ground::with(&config)?, devices))
}

/// Generates.
pub fn pktgen(args: &PktgenArgs) -> Result<()> {
    let (ground, devices) = ground(&args.ports)?;
    let mut wire = PortWire::open(ground.pool.eal(), &devices, &ground.pool)?;
    let (own, hz) = (wire.macs(), ground.hz());
    let sizes = match args.size.as_str() {
        "imix" => Sizes::Imix,
        size => Sizes::Fixed(size.parse().map_err(|_| format!("--size {size}: bytes, or imix"))?),
    };
    let gateways = [gateway(args.lan_gateway.as_deref())?, gateway(args.wan_gateway.as_deref())?];
    let mut neighbours = Neighbours::new(own, gateways);
    find_firewall(&ground, &mut wire, &mut neighbours, gateways.map(|gateway| gateway.is_some()))?;
    let link = |side: Side| {
        let dst = neighbours.found(side).unwrap_or(FIREWALL);
        Link { src: own[side as usize], dst }
    };
    let plan = Plan {
        flows: args.flows,
        traffic: if args.traffic.is_empty() { Traffic::ALL.to_vec() } else { args.traffic.clone() },
        sizes,
        packets_per_flow: args.packets_per_flow,
        new_per_second: args.new_per_second,
        links: Side::BOTH.map(link),
        hz,
        timed_every: args.timed_every,
    };
    let mut generator = Generator::new(plan).ok_or("--flows: 1 to 16,777,216")?;
    let pace = Pace::new(args.rate, args.burst, hz);
    let (began, length) = (Instant::now(), Duration::from_secs_f64(args.seconds));
    let mut driven = Drive {
        generator: &mut generator,
        wire: &mut wire,
        pool: ground.pool,
        pace,
        neighbours: Some(&mut neighbours),
    };
    let outcome = drive(&mut driven, |_| began.elapsed() < length);
    let seconds = began.elapsed().as_secs_f64();
    let drained = Instant::now();
    while drained.elapsed() < PATIENCE
        && driven.generator.counts.arrived + outcome.unsent < driven.generator.counts.sent
    {
        driven.drain();
    }
    let counts = generator.counts;
    let summary = Summary {
        seconds,
        counts,
        unsent: outcome.unsent,
        lost: counts.sent.saturating_sub(outcome.unsent + counts.arrived),
        sent_per_second: counts.sent.saturating_sub(outcome.unsent) as f64 / seconds,
        arrived_per_second: counts.arrived as f64 / seconds,
        opened_per_second: counts.opened as f64 / seconds,
        latency: generator.latency.percentiles(hz),
    };
    if args.json {
        println!("{}", serde_json::to_string(&summary)?)
    } else {
        println!("{summary:#?}")
    }
    Ok(())
}

/// Sends everything back out of the other port, MAC addresses swapped, until the time is over.
pub fn reflect(ports: &Ports, seconds: f64) -> Result<()> {
    let (ground, devices) = ground(ports)?;
    let (queues, _ports) = PortWire::open(ground.pool.eal(), &devices, &ground.pool)?.into_parts();
    let mut macswap = Macswap::new(queues);
    let (began, length) = (Instant::now(), Duration::from_secs_f64(seconds));
    while began.elapsed() < length {
        for _ in 0..1024 {
            macswap.turn();
        }
    }
    println!("{} packets", macswap.meter().packets());
    Ok(())
}

fn gateway(text: Option<&str>) -> Result<Option<([u8; 4], [u8; 4])>> {
    let Some(text) = text else { return Ok(None) };
    let (gateway, own) = text.split_once(',').ok_or_else(|| format!("{text}: GATEWAY,OWN"))?;
    let octets = |text: &str| -> Result<[u8; 4]> { Ok(text.trim().parse::<std::net::Ipv4Addr>()?.octets()) };
    Ok(Some((octets(gateway)?, octets(own)?)))
}

/// Asks for the firewall's MAC addresses until it has answered.
fn find_firewall(
    ground: &Ground,
    wire: &mut PortWire,
    neighbours: &mut Neighbours,
    asked: [bool; 2],
) -> Result<()> {
    let began = Instant::now();
    let mut next = began;
    while Side::BOTH.iter().any(|side| asked[*side as usize] && neighbours.found(*side).is_none()) {
        if began.elapsed() > PATIENCE * 5 {
            return Err("the firewall does not answer to ARP: is it up, and are its addresses right?".into());
        }
        for side in Side::BOTH {
            let mut out = [0; 128];
            if Instant::now() >= next
                && let Some(len) = neighbours.ask(side, &mut out)
            {
                let mut burst: Burst =
                    out.get(..len).and_then(|bytes| ground.pool.frame(bytes)).into_iter().collect();
                wire.send(side, &mut burst);
            }
            let mut burst = Burst::new();
            wire.receive(side, &mut burst);
            for frame in &burst {
                if let Some(len) = neighbours.hear(side, frame.bytes(), &mut out) {
                    let mut answer: Burst =
                        out.get(..len).and_then(|bytes| ground.pool.frame(bytes)).into_iter().collect();
                    wire.send(side, &mut answer);
                }
            }
        }
        if Instant::now() >= next {
            next = Instant::now() + Duration::from_millis(100);
        }
    }
    Ok(())
}
