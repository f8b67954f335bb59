"""The configuration texts of a throw-away cluster. Why each setting is as it is: ``docs/internals/slurm.md``."""

from flat_bug.cluster.rehearsal.shape import ClusterShape, Folders, Ports

CLUSTER = "rehearsal"
ADDRESS = "127.0.0.1"
SECONDS_UNTIL_REQUEUE = 5


def slurm_conf(shape: ClusterShape, folders: Folders, ports: Ports, host: str, user: str) -> str:
    """Return the text of ``slurm.conf``."""
    parts = [_daemons(folders, ports, host, user), _jobs(shape), _scheduling(shape), _around_jobs(shape, folders)]
    parts += [_accounting(shape, folders, ports), _nodes(shape, ports, host), _partitions(shape)]
    return "\n".join(parts) + "\n"


def _daemons(folders: Folders, ports: Ports, host: str, user: str) -> str:
    return f"""\
ClusterName={CLUSTER}
SlurmctldHost={host}({ADDRESS})
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
SlurmctldPort={ports.controller}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={folders.munge_socket},cred_expire={SECONDS_UNTIL_REQUEUE}
StateSaveLocation={folders.state}/ctld
SlurmdSpoolDir={folders.state}/spool/%n
SlurmctldPidFile={folders.run}/slurmctld.own-pid
SlurmdPidFile={folders.run}/%n.own-pid
SlurmctldLogFile={folders.logs}/slurmctld.log
SlurmdLogFile={folders.logs}/%n.log
SlurmctldDebug=info
SlurmdDebug=info
MailProg=/bin/true
MpiDefault=none
SwitchType=switch/none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SlurmdParameters=config_overrides
SlurmctldTimeout=10
SlurmdTimeout=10
ReturnToService=2
TreeWidth=65533
MessageTimeout=15
TCPTimeout=10"""


def _jobs(shape: ClusterShape) -> str:
    return f"""\
JobRequeue=1
EnforcePartLimits=ALL
MaxArraySize={shape.max_array_size if shape.arrays else 0}
MinJobAge={shape.min_job_age}
DefMemPerCPU={max(1, shape.memory_mb // shape.cpus)}
KillWait=5
InactiveLimit=0
WaitTime=0
UnkillableStepTimeout=60
BatchStartTimeout=20
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=2
JobAcctGatherParams=OverMemoryKill"""


def _scheduling(shape: ClusterShape) -> str:
    lines = [
        "SelectType=select/cons_tres",
        "SelectTypeParameters=CR_CPU_Memory",
        "SchedulerType=sched/backfill",
        "SchedulerParameters=sched_interval=1,sched_min_interval=10000,bf_interval=1,batch_sched_delay=0",
        "PriorityType=priority/basic",
    ]
    names = ["gpu", *(item.partition(":")[0] for item in shape.countable)]
    lines.append(f"GresTypes={','.join(names)}")
    if shape.licenses:
        lines.append(f"Licenses={','.join(shape.licenses)}")
    if shape.preempt:
        lines += ["PreemptType=preempt/partition_prio", "PreemptMode=REQUEUE"]
    return "\n".join(lines)


def _around_jobs(shape: ClusterShape, folders: Folders) -> str:
    lines = [f"TaskProlog={folders.bin}/task-prolog"]
    if shape.node_folder:
        # Alloc: the prolog runs on every node of a job before its script does on the first one.
        lines += ["PrologFlags=Alloc", f"Prolog={folders.bin}/prolog", f"Epilog={folders.bin}/epilog"]
    return "\n".join(lines)


def _accounting(shape: ClusterShape, folders: Folders, ports: Ports) -> str:
    lines = ["JobCompType=jobcomp/none"]
    if not shape.accounting:
        return "\n".join([*lines, "AccountingStorageType=accounting_storage/none"])
    lines += [
        "AccountingStorageType=accounting_storage/slurmdbd",
        f"AccountingStorageHost={ADDRESS}",
        f"AccountingStoragePort={ports.accounting}",
        # With slurmdbd this is no password but the socket of munge; AuthInfo is not looked at here.
        f"AccountingStoragePass={folders.munge_socket}",
        "AccountingStorageTRES=gres/gpu",
        "AccountingStoreFlags=job_comment",
    ]
    if shape.accounts or shape.qos or shape.max_submit_jobs is not None:
        lines.append(f"AccountingStorageEnforce=associations,limits{',qos' if shape.qos else ''}")
    return "\n".join(lines)


def _nodes(shape: ClusterShape, ports: Ports, host: str) -> str:
    gres = [f"gpu:{shape.gpu_type}:{shape.gpus}"] if shape.gpus else []
    gres += shape.countable
    options = [
        f"CPUs={shape.cpus} Boards=1 SocketsPerBoard=1 CoresPerSocket={shape.cpus} ThreadsPerCore=1",
        f"RealMemory={shape.memory_mb} TmpDisk=0 State=UNKNOWN",
        *([f"Gres={','.join(gres)}"] if gres else []),
        *([f"Feature={','.join(shape.features)}"] if shape.features else []),
    ]
    return "\n".join(
        f"NodeName={name} NodeHostname={host} NodeAddr={ADDRESS} Port={port} {' '.join(options)}"
        for name, port in zip(shape.node_names, ports.nodes, strict=True)
    )


def _partitions(shape: ClusterShape) -> str:
    common = f"Nodes=node[1-{shape.nodes}] DefaultTime=00:10:00 MaxTime=30-00:00:00 State=UP OverSubscribe=NO"
    names = [*shape.partitions, *(["urgent"] if shape.preempt and "urgent" not in shape.partitions else [])]
    return "\n".join(
        f"PartitionName={name} Default={'YES' if name == names[0] else 'NO'} "
        f"PriorityTier={10 if shape.preempt and name == 'urgent' else 1} {common}"
        for name in names
    )


def slurmdbd_conf(folders: Folders, ports: Ports, host: str, user: str) -> str:
    """Return the text of ``slurmdbd.conf``, which only its owner may read."""
    return f"""\
DbdHost={host}
DbdAddr={ADDRESS}
DbdPort={ports.accounting}
CommunicationParameters=NoInAddrAny
AuthType=auth/munge
AuthInfo=socket={folders.munge_socket}
SlurmUser={user}
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageUser={user}
StorageLoc=slurm_acct_db
LogFile={folders.logs}/slurmdbd.log
PidFile={folders.run}/slurmdbd.own-pid
DebugLevel=info
"""


def gres_conf(shape: ClusterShape, folders: Folders) -> str:
    """Return the text of ``gres.conf``: GPUs are links to a device that every machine has."""
    lines = ["AutoDetect=off"]
    if shape.gpus:
        last = f"[0-{shape.gpus - 1}]" if shape.gpus > 1 else "0"
        lines.append(f"Name=gpu Type={shape.gpu_type} File={folders.state}/dev/gpu{last}")
    for item in shape.countable:
        name, _, count = item.partition(":")
        lines.append(f"Name={name} Count={count or 1}")
    return "\n".join(lines) + "\n"


def cgroup_conf() -> str:
    """Return the text of ``cgroup.conf``, which is read even where nothing uses cgroups, and would have us probed."""
    return "CgroupPlugin=cgroup/v1\nCgroupAutomount=no\nConstrainCores=no\nConstrainRAMSpace=no\nConstrainDevices=no\n"
