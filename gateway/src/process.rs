//! What the kernel knows of this process: memory, files, processor, and packets that it dropped
//! because the QUIC socket's buffer was full. Read when somebody looks; nothing is kept.

use std::fs::{self, File};
use std::io::Read as _;

use metrics::{counter, gauge};

/// Files in `/proc` are read up to this; a machine with more UDP sockets than fit tells no drops.
const PROC_BYTES_MAX: u64 = 1 << 20;
/// Open files are counted up to this.
const FILES_COUNTED_MAX: usize = 1 << 20;
/// Ticks of a second in `/proc/PID/stat`: fixed by the kernel's interface (`USER_HZ`).
const TICKS_PER_S: f64 = 100.0;

/// Sets the gauges. What cannot be read is left as it was.
pub(crate) fn sample(quic_port: u16) {
    if let Some(bytes) = read("/proc/self/status").as_deref().and_then(resident_bytes) {
        gauge!("petrel_process_resident_memory_bytes").set(bytes);
    }
    if let Some(seconds) = read("/proc/self/stat").as_deref().and_then(cpu_seconds) {
        gauge!("petrel_process_cpu_seconds").set(seconds);
    }
    if let Ok(files) = fs::read_dir("/proc/self/fd") {
        let open = u32::try_from(files.take(FILES_COUNTED_MAX).count()).unwrap_or(u32::MAX);
        gauge!("petrel_process_open_files").set(f64::from(open));
    }
    if let Some(most) = open_files_max() {
        gauge!("petrel_process_open_files_max").set(most);
    }
    let drops = ["/proc/self/net/udp", "/proc/self/net/udp6"]
        .iter()
        .filter_map(|path| udp_drops(&read(path)?, quic_port))
        .max();
    if let Some(drops) = drops {
        counter!("petrel_quic_udp_receive_drops_total").absolute(drops);
    }
}

/// How many files and sockets may be open, if the kernel tells.
pub(crate) fn open_files_max() -> Option<f64> {
    read("/proc/self/limits").as_deref().and_then(files_max)
}

/// Names and meanings for the exporter.
pub(crate) fn describe() {
    use metrics::{describe_counter, describe_gauge};
    for (name, help) in [
        ("petrel_process_resident_memory_bytes", "Memory of this process (RSS)."),
        ("petrel_process_cpu_seconds", "Processor time that this process has used."),
        ("petrel_process_open_files", "Files and sockets that are open."),
        ("petrel_process_open_files_max", "Files and sockets that may be open."),
    ] {
        describe_gauge!(name, help);
    }
    describe_counter!(
        "petrel_quic_udp_receive_drops_total",
        "Datagrams that the kernel dropped because the socket's receive buffer was full."
    );
}

fn read(path: &str) -> Option<String> {
    let mut text = String::new();
    File::open(path).ok()?.take(PROC_BYTES_MAX).read_to_string(&mut text).ok()?;
    Some(text)
}

fn resident_bytes(status: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024.0)
}

fn cpu_seconds(stat: &str) -> Option<f64> {
    // The program's name is in parentheses and may have blanks in it.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut times = fields.split_ascii_whitespace().skip(11);
    let user: f64 = times.next()?.parse().ok()?;
    let system: f64 = times.next()?.parse().ok()?;
    Some((user + system) / TICKS_PER_S)
}

fn files_max(limits: &str) -> Option<f64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

/// The `drops` column of our socket: the local port is in hexadecimal, drops are last.
fn udp_drops(table: &str, port: u16) -> Option<u64> {
    let wanted = format!(":{port:04X}");
    let ours = table.lines().skip(1).filter(|line| {
        line.split_ascii_whitespace().nth(1).is_some_and(|local| local.ends_with(&wanted))
    });
    ours.filter_map(|line| line.split_ascii_whitespace().last()?.parse::<u64>().ok()).max()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_tables_are_read() {
        let status = "Name:\tpetrel\nVmRSS:\t    1024 kB\nThreads:\t3\n";
        assert_eq!(resident_bytes(status), Some(1_048_576.0));
        let stat = "7 (a ) b) S 1 7 7 0 -1 4194560 1 0 0 0 250 50 0 0 20 0 3 0 1 2 3";
        assert_eq!(cpu_seconds(stat), Some(3.0));
        let limits = "Limit  Soft Limit Hard Limit Units\nMax open files            20000                20000                files     \n";
        assert_eq!(files_max(limits), Some(20_000.0));
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops\n\
                       1: 00000000:1151 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 1 2 0 17\n\
                       2: 00000000:1152 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 1 2 0 5\n";
        assert_eq!((udp_drops(table, 4433), udp_drops(table, 4434)), (Some(17), Some(5)));
        assert_eq!(udp_drops(table, 4435), None);
        assert_eq!((resident_bytes(""), cpu_seconds(""), files_max("")), (None, None, None));
    }

    #[test]
    fn this_process_has_all_of_it() {
        let text = |path| read(path).unwrap_or_default();
        assert!(resident_bytes(&text("/proc/self/status")).is_some());
        assert!(cpu_seconds(&text("/proc/self/stat")).is_some());
        assert!(files_max(&text("/proc/self/limits")).is_some());
    }
}
