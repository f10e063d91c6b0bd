//! The network of a fleet: a switch in a namespace of its own, and a cable to each host.
//!
//! The addresses are 10.77.0.1 and so on; the test itself stands at 10.77.0.254. Since nothing of it is in
//! the machine's own network, fleets beside each other may use the same addresses.

use std::fs::File;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::AsFd as _;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::run;

/// The test's own address.
pub const OPERATOR: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 254);

/// The switch of a fleet.
#[derive(Debug, Clone)]
pub struct Switch {
    namespace: String,
}

/// One host's end of its cable.
#[derive(Debug, Clone)]
pub struct Cable {
    /// The network namespace of the host.
    pub namespace: String,
    /// The address of the host.
    pub address: Ipv4Addr,
    switch: Switch,
    port: String,
}

impl Switch {
    /// Makes the switch of the fleet `id`.
    ///
    /// # Errors
    /// What `ip` said.
    pub fn new(id: &str) -> io::Result<Self> {
        let namespace = format!("{id}.switch");
        run("ip", &["netns", "add", &namespace])?;
        let own = format!("{OPERATOR}/24");
        for arguments in [
            &["link", "set", "lo", "up"][..],
            &["link", "add", "br0", "type", "bridge"],
            &["addr", "add", &own, "dev", "br0"],
            &["link", "set", "br0", "up"],
        ] {
            run("ip", &[&["-n", &namespace], arguments].concat())?;
        }
        Ok(Self { namespace })
    }

    /// Takes this thread, and the threads and processes that it starts from now on, into the fleet's network.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn enter(&self) -> io::Result<()> {
        let file = File::open(format!("/run/netns/{}", self.namespace))?;
        Ok(move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))?)
    }

    /// Lays a cable to the host with this number.
    ///
    /// # Errors
    /// What `ip` said.
    pub fn connect(&self, id: &str, host: &str, number: u8) -> io::Result<Cable> {
        let cable = Cable {
            namespace: format!("{id}.{host}"),
            address: Ipv4Addr::new(10, 77, 0, number),
            switch: self.clone(),
            port: format!("port{number}"),
        };
        let (inside, port) = (&cable.namespace, &cable.port);
        run("ip", &["netns", "add", inside])?;
        let switch = ["-n", &self.namespace];
        let veth = ["link", "add", port, "type", "veth", "peer", "name", "host0", "netns", inside];
        run("ip", &[&switch[..], &veth].concat())?;
        run("ip", &[&switch[..], &["link", "set", port, "master", "br0", "up"]].concat())?;
        let (address, gateway) = (format!("{}/24", cable.address), OPERATOR.to_string());
        for arguments in [
            &["link", "set", "lo", "up"][..],
            &["addr", "add", &address, "dev", "host0"],
            &["link", "set", "host0", "up"],
            &["route", "add", "default", "via", &gateway],
        ] {
            run("ip", &[&["-n", inside], arguments].concat())?;
        }
        Ok(cable)
    }
}

impl Cable {
    /// Pulls the cable: the other side of the wire says that nobody is there.
    ///
    /// # Errors
    /// What `ip` said.
    pub fn unplug(&self) -> io::Result<()> {
        self.set_port("down")
    }

    /// Puts it back.
    ///
    /// # Errors
    /// What `ip` said.
    pub fn plug(&self) -> io::Result<()> {
        self.set_port("up")
    }

    fn set_port(&self, state: &str) -> io::Result<()> {
        run("ip", &["-n", &self.switch.namespace, "link", "set", &self.port, state]).map(|_| ())
    }

    /// Swallows every packet from and to the host without a word; connections stand open and hear nothing.
    ///
    /// # Errors
    /// What `nft` said.
    pub fn black_hole(&self) -> io::Result<()> {
        let chain = |name: &str, hook: &str, interface: &str| {
            format!(
                "add chain inet black_hole {name} {{ type filter hook {hook} priority -300; policy drop; }}\n\
                 add rule inet black_hole {name} {interface} lo accept\n"
            )
        };
        let rules = format!(
            "add table inet black_hole\n{}{}",
            chain("to", "input", "iif"),
            chain("from", "output", "oif")
        );
        self.nft(&rules)
    }

    /// Lets packets through again.
    ///
    /// # Errors
    /// What `nft` said.
    pub fn heal(&self) -> io::Result<()> {
        self.nft("delete table inet black_hole")
    }

    fn nft(&self, rules: &str) -> io::Result<()> {
        run("ip", &["netns", "exec", &self.namespace, "nft", rules]).map(|_| ())
    }
}
