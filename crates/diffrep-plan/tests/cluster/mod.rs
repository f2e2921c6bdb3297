//! A Slurm of one machine, with controller, node daemon, key and ports of its own.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// Where a program of Slurm lies; daemons are often not on the path.
fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from))
        .map(|folder| folder.join(name))
        .find(|path| path.is_file())
}

/// A cluster of one machine, in a temporary folder. Its daemons end when this is dropped.
pub(crate) struct Cluster {
    pub(crate) dir: TempDir,
    daemons: Vec<Child>,
}

impl Cluster {
    /// Starts it; `None`, said on standard error, if Slurm is not installed.
    #[allow(clippy::print_stderr, reason = "a test that is skipped says so")]
    pub(crate) fn start() -> Option<Self> {
        let cluster = Self::started();
        if cluster.is_none() {
            let why = "skipped: Slurm is not installed (Debian: slurm-wlm and munge)";
            eprintln!("{why}");
        }
        cluster
    }

    fn started() -> Option<Self> {
        let [munged, slurmctld, slurmd] = ["munged", "slurmctld", "slurmd"].map(program);
        let (munged, slurmctld, slurmd) = (munged?, slurmctld?, slurmd?);
        program("sbatch")?;
        let mut cluster = Self {
            dir: tempfile::tempdir().unwrap(),
            daemons: Vec::new(),
        };
        let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
        let host = host.trim().split('.').next().unwrap();
        cluster.configure(host);
        let path = |name: &str| cluster.dir.path().join(name);
        let option = |option: &str, name: &str| format!("--{option}={}", path(name).display());
        let mut command = Command::new(munged);
        command.args(["--foreground", "--force"]).args([
            option("socket", "munge.socket"),
            option("key-file", "munge.key"),
            option("pid-file", "munge.pid"),
            option("seed-file", "munge.seed"),
        ]);
        cluster.daemon("munged", &mut command);
        cluster.wait("munged to listen", |cluster| {
            cluster.path("munge.socket").exists()
        });
        let conf = cluster.path("slurm.conf");
        let mut command = Command::new(slurmctld);
        cluster.daemon("slurmctld", command.args(["-D", "-f"]).arg(&conf));
        let mut command = Command::new(slurmd);
        cluster.daemon("slurmd", command.args(["-D", "-N", host, "-f"]).arg(&conf));
        cluster.wait("the node to be idle", |cluster| {
            cluster.ask(&["sinfo", "-h", "-o", "%T"]) == "idle"
        });
        Some(cluster)
    }

    fn configure(&self, host: &str) {
        let user = Command::new("id").arg("-un").output().unwrap().stdout;
        let user = String::from_utf8(user).unwrap();
        let user = user.trim();
        // Free now; held until the configuration is written, so that they differ.
        let ports = [0, 0].map(|_| TcpListener::bind("127.0.0.1:0").unwrap());
        let [control, node] = ports
            .each_ref()
            .map(|port| port.local_addr().unwrap().port());
        let dir = self.dir.path().display();
        let conf = format!(
            "ClusterName=test\n\
             SlurmctldHost={host}(127.0.0.1)\n\
             SlurmctldPort={control}\n\
             SlurmdPort={node}\n\
             SlurmUser={user}\n\
             SlurmdUser={user}\n\
             AuthType=auth/munge\n\
             AuthInfo=socket={dir}/munge.socket\n\
             StateSaveLocation={dir}/state\n\
             SlurmdSpoolDir={dir}/spool\n\
             SlurmctldPidFile={dir}/slurmctld.pid\n\
             SlurmdPidFile={dir}/slurmd.pid\n\
             SlurmctldLogFile={dir}/slurmctld.log\n\
             SlurmdLogFile={dir}/slurmd.log\n\
             ProctrackType=proctrack/pgid\n\
             TaskPlugin=task/none\n\
             JobAcctGatherType=jobacct_gather/none\n\
             AccountingStorageType=accounting_storage/none\n\
             SelectType=select/cons_tres\n\
             SelectTypeParameters=CR_Core\n\
             SchedulerParameters=sched_interval=1,batch_sched_delay=0\n\
             SlurmdParameters=config_overrides\n\
             MailProg=/bin/true\n\
             ReturnToService=2\n\
             NodeName={host} NodeAddr=127.0.0.1 CPUs=8 State=UNKNOWN\n\
             PartitionName=all Nodes={host} Default=YES MaxTime=INFINITE State=UP\n"
        );
        fs::write(self.path("slurm.conf"), conf).unwrap();
        fs::create_dir(self.path("state")).unwrap();
        fs::create_dir(self.path("spool")).unwrap();
        fs::write(self.path("munge.key"), [7; 128]).unwrap();
        fs::set_permissions(self.path("munge.key"), fs::Permissions::from_mode(0o600)).unwrap();
        let wrapper = format!("#!/bin/sh\nSLURM_CONF='{dir}/slurm.conf' exec \"$@\"\n");
        let sbatch = wrapper.replace("\"$@\"", "sbatch \"$@\"");
        for (name, text) in [("with", wrapper), ("sbatch", sbatch)] {
            fs::write(self.path(name), text).unwrap();
            fs::set_permissions(self.path(name), fs::Permissions::from_mode(0o755)).unwrap();
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn daemon(&mut self, name: &str, command: &mut Command) {
        let log = || fs::File::create(self.path(&format!("{name}.out"))).unwrap();
        let child = command
            .stdin(Stdio::null())
            .stdout(log())
            .stderr(log())
            .spawn();
        self.daemons.push(child.unwrap());
    }

    /// What a command of Slurm prints.
    pub(crate) fn ask(&self, command: &[&str]) -> String {
        let output = Command::new(self.path("with"))
            .args(command)
            .output()
            .unwrap();
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    fn wait(&self, what: &str, until: impl Fn(&Self) -> bool) {
        let start = Instant::now();
        while !until(self) {
            assert!(
                start.elapsed() < Duration::from_secs(90),
                "waited for {what}\n{}",
                self.logs()
            );
            sleep(Duration::from_millis(100));
        }
    }

    /// Waits until no job is queued or running.
    pub(crate) fn drain(&self) {
        let ask = ["squeue", "-h", "-o", "%i %T %r"];
        self.wait("the queue to be empty", |cluster| {
            cluster.ask(&ask).is_empty()
        });
    }

    pub(crate) fn logs(&self) -> String {
        [
            "munged.out",
            "slurmctld.out",
            "slurmd.out",
            "slurmctld.log",
            "slurmd.log",
        ]
        .map(|name| fs::read_to_string(self.path(name)).unwrap_or_default())
        .concat()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // Jobs first: they are children of a daemon's child, which outlives a killed daemon.
        let user = Command::new("id").arg("-un").output();
        let user = user.map(|user| String::from_utf8_lossy(&user.stdout).trim().to_owned());
        self.ask(&[
            "scancel",
            "--signal=KILL",
            "--full",
            "--user",
            &user.unwrap_or_default(),
        ]);
        // Asked first, so that a daemon ends its own children; killed if it does not.
        for daemon in self.daemons.iter_mut().rev() {
            let asked = Command::new("kill").arg(daemon.id().to_string()).status();
            let ends = (0..50).any(|_| {
                sleep(Duration::from_millis(100));
                daemon.try_wait().is_ok_and(|status| status.is_some())
            });
            if asked.is_err() || !ends {
                let _ = daemon.kill();
                let _ = daemon.wait();
            }
        }
    }
}
