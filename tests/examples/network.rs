//! Examples for packets and connections, over loopback only.

use std::fs;
use std::io::ErrorKind;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::process;

use serde_json::json;

use super::{Example, shell};

/// Sends datagrams of `size` bytes over loopback.
fn send_datagrams(count: usize, size: usize) {
    let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
    let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
    for _ in 0..count {
        sender.send_to(&vec![0; size], receiver.local_addr().unwrap()).unwrap();
    }
}

#[test]
fn tcpstates_reports_addresses_in_their_usual_form() {
    for (address, written) in [("127.0.0.1", "::ffff:127.0.0.1"), ("::1", "::1")] {
        let listener = TcpListener::bind((address, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let Some(mut example) = Example::attach("tcpstates", &["--remote-port", &port.to_string()]) else {
            return;
        };
        TcpStream::connect((address, port)).unwrap();

        let syn_sent_to_established = json!({"oldstate": 2, "newstate": 1, "dport": port});
        let event = example.wait_for(syn_sent_to_established);
        assert_eq!((&event["saddr"], &event["daddr"]), (&json!(written), &json!(written)));
        // The kernel's half of the address space, which begins lower with five-level page tables.
        assert!(event["skaddr"].as_str().unwrap().starts_with("0xff"), "{event}");
    }
}

#[test]
fn xdp_counts_packets_by_ethertype() {
    let Some(mut example) = Example::attach("xdp", &[]) else { return };
    send_datagrams(5, 1000);

    loop {
        let traffic = &example.wait_for(json!({"key": 0x0800}))["value"];
        if traffic["packets"].as_u64().unwrap() >= 5 {
            assert!(traffic["bytes"].as_u64().unwrap() >= 5000);
            break;
        }
    }
}

#[test]
fn tc_reports_packets() {
    let Some(mut example) = Example::attach("tc", &[]) else { return };
    send_datagrams(1, 777);

    let headers = 14 + 20 + 8; // Ethernet, IPv4, UDP
    let (from, to) = ([127, 0, 0, 1], [127, 0, 0, 1]);
    example.wait_for(json!({"ifindex": 1, "len": headers + 777, "protocol": 17, "saddr": from, "daddr": to}));
}

#[test]
#[ignore = "needs kprobes: run by make vm"]
fn vm_bindsnoop_reports_addresses_ports_and_results() {
    let pid = process::id().to_string();
    let Some(mut example) = Example::attach("bindsnoop", &["--pid", &pid]) else { return };
    let v4 = TcpListener::bind("127.0.0.1:0").unwrap();
    let v6 = UdpSocket::bind("[::1]:0").unwrap();
    let address = v4.local_addr().unwrap();
    TcpListener::bind(address).unwrap_err();

    let (tcp, udp) = (6, 17);
    let in_v6 = "::ffff:127.0.0.1";
    let bound =
        json!({"family": 2, "addr": in_v6, "port": address.port(), "type": 1, "protocol": tcp, "ret": 0});
    example.wait_for(bound);
    let port = v6.local_addr().unwrap().port();
    example
        .wait_for(json!({"family": 10, "addr": "::1", "port": port, "type": 2, "protocol": udp, "ret": 0}));
    example.wait_for(json!({"family": 2, "port": address.port(), "ret": -98}));
}

#[test]
#[ignore = "needs kprobes: run by make vm"]
fn vm_bindsnoop_can_report_only_one_port() {
    let Some(mut example) = Example::attach("bindsnoop", &["--port", "4321", "--failed"]) else { return };
    UdpSocket::bind("127.0.0.1:4320").unwrap();
    let _taken = UdpSocket::bind("127.0.0.1:4321").unwrap();
    UdpSocket::bind("127.0.0.1:4321").unwrap_err();

    let event = example.next();
    assert_eq!((&event["port"], &event["ret"]), (&json!(4321), &json!(-98)));
}

#[test]
#[ignore = "needs fentry or kprobes: run by make vm"]
fn vm_tcpconnlat_reports_how_long_connects_take() {
    let pid = process::id().to_string();
    let Some(mut example) = Example::attach("tcpconnlat", &["--pid", &pid]) else { return };

    for (host, family, addr) in [("127.0.0.1", 2, "::ffff:127.0.0.1"), ("::1", 10, "::1")] {
        let listener = TcpListener::bind((host, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let stream = TcpStream::connect((host, port)).unwrap();
        let from = stream.local_addr().unwrap().port();
        let connection =
            json!({"family": family, "sport": from, "dport": port, "saddr": addr, "daddr": addr});
        let event = example.wait_for(connection);
        assert_ne!(event["delta_ns"], 0);
    }
}

#[test]
#[ignore = "needs fentry or kprobes: run by make vm"]
fn vm_tcpconnlat_can_omit_quick_connects() {
    let hour_in_us = "3600000000";
    let Some(mut example) = Example::attach("tcpconnlat", &["--min", hour_in_us]) else { return };
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    TcpStream::connect(listener.local_addr().unwrap()).unwrap();

    assert_eq!(example.poll_once(), None);
}

#[test]
#[ignore = "needs an LSM: run by make vm"]
fn vm_lsm_connect_refuses_one_address_and_reports_the_process() {
    let Some(mut example) = Example::attach("lsm-connect", &["--address", "127.0.0.2"]) else { return };
    let listener = TcpListener::bind("0.0.0.0:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let refused = TcpStream::connect(("127.0.0.2", port)).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::PermissionDenied);
    TcpStream::connect(("127.0.0.1", port)).unwrap();

    example.wait_for(json!({"pid": process::id(), "addr": "127.0.0.2", "port": port}));
    drop(example);
    TcpStream::connect(("127.0.0.2", port)).unwrap();
}

#[test]
fn cgroup_traffic_counts_packets_of_a_cgroup() {
    let Some(mut example) = Example::open("cgroup-traffic", &[]) else { return };
    let group = Group::new();
    let target = json!({"cgroup": group.0}).to_string();
    for program in ["count_ingress", "count_egress"] {
        example.vm.prog_set_target_json(program, &target).unwrap();
    }
    example.vm.attach().unwrap();
    let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = receiver.local_addr().unwrap().port();
    shell(&format!(
        "echo $$ > {}/cgroup.procs && exec bash -c 'printf 12345 > /dev/udp/127.0.0.1/{port}'",
        group.0
    ));

    let headers = 20 + 8; // IPv4, UDP
    loop {
        let entry = example.wait_for(json!({"key": "EGRESS"}));
        let sum = |name: &str| -> u64 {
            let cpus = entry["value"].as_array().unwrap();
            cpus.iter().map(|cpu| cpu[name].as_u64().unwrap()).sum()
        };
        if sum("packets") > 0 {
            assert_eq!((sum("packets"), sum("bytes")), (1, headers + 5));
            break;
        }
    }
}

/// A version 2 cgroup; removed on drop.
struct Group(String);

impl Group {
    fn new() -> Group {
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
        let root = mounts.lines().find_map(|line| line.strip_prefix("cgroup2 ")?.split(' ').next());
        let group = format!("{}/eunomia-{}", root.expect("cgroup2 is mounted"), process::id());
        fs::create_dir(&group).unwrap();
        Group(group)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        fs::remove_dir(&self.0).unwrap();
    }
}
