"""What a cluster does around jobs: a folder on the node for each, and environment modules."""

import shutil
import sys
from pathlib import Path

from flat_bug.cluster.rehearsal.daemons import MARK
from flat_bug.cluster.rehearsal.shape import ClusterShape, Folders

LMOD = Path("/usr/share/lmod/lmod/init/bash")
PROXIES = ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
NO_PROXY = "http://127.0.0.1:9"
"""Nobody listens there, so whoever obeys it fails as on a node without the Internet."""


def write_scripts(shape: ClusterShape, folders: Folders) -> None:
    """Write the scripts that Slurm starts around jobs, and the modules."""
    _write_script(folders.bin / "prolog", _prolog(folders))
    _write_script(folders.bin / "epilog", _epilog(folders))
    _write_script(folders.bin / "task-prolog", _task_prolog(shape, folders))
    if not shape.module_names:
        return
    bash_env(folders).write_text(_bash_env(folders), encoding="ascii")
    for module in shape.module_names:
        _write_module(module, folders)
    _write_interpreter(shape, folders)


def bash_env(folders: Folders) -> Path:
    """Return the file that every bash of a job reads first, which gives it the command ``module``."""
    return folders.etc / "bash_env"


def modulefiles(folders: Folders) -> Path:
    """Return the folder of modules."""
    return folders.state / "modulefiles"


def _write_script(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
    path.chmod(0o755)


def _prolog(folders: Folders) -> str:
    return f"""\
#!/bin/bash
# Once for each job and node, before anything of the job runs. Slurm drains the node when this fails.
folder={folders.scratch}/$SLURMD_NODENAME/$SLURM_JOB_USER.$SLURM_JOB_ID.0
mkdir -p "$folder" && chmod 700 "$folder" && chown "$SLURM_JOB_UID:$(id -g "$SLURM_JOB_UID")" "$folder" || exit 1
"""


def _epilog(folders: Folders) -> str:
    return f"""\
#!/bin/bash
# Once for each job and node, after the job.
[ -n "$SLURMD_NODENAME" ] && [ -n "$SLURM_JOB_USER" ] && [ -n "$SLURM_JOB_ID" ] || exit 0
folder={folders.scratch}/$SLURMD_NODENAME/$SLURM_JOB_USER.$SLURM_JOB_ID.0
# An image that the job mounted there is dead by now, and would keep the folder.
while read -r _ _ _ _ place _; do
  case $place in "$folder"/*) umount -l "$place" ;; esac
done </proc/self/mountinfo
rm -rf -- "$folder"
exit 0
"""


def _task_prolog(shape: ClusterShape, folders: Folders) -> str:
    lines = [
        "#!/bin/bash",
        "# As the user, before the script of a job and before each task of srun: what this prints is added to the",
        "# environment.",
        f'echo "export {MARK}={folders.state}"',
    ]
    if shape.node_folder:
        place = f"{folders.scratch}/$SLURMD_NODENAME/$SLURM_JOB_USER.$SLURM_JOB_ID.0"
        lines.append(f'echo "export SLURM_TMPDIR={place}"')
    if not shape.internet:
        lines += [f'echo "export {name}={NO_PROXY}"' for name in PROXIES]
        lines += [f'echo "export {name}=127.0.0.1,localhost"' for name in ("no_proxy", "NO_PROXY")]
    if shape.module_names:
        lines.append(f'echo "export BASH_ENV={bash_env(folders)}"')
    return "\n".join(lines) + "\n"


def _bash_env(folders: Folders) -> str:
    return f"""\
# Gives scripts the command `module`, and the modules of this cluster only.
if [ "${{MODULEPATH_ROOT:-}}" != "{modulefiles(folders)}" ]; then
  unset LOADEDMODULES _LMFILES_ _ModuleTable_Sz_
  export LMOD_ALLOW_ROOT_USE=yes LMOD_CACHED_LOADS=no
  export MODULEPATH_ROOT={modulefiles(folders)} MODULEPATH={modulefiles(folders)}
fi
[ ! -r {LMOD} ] || . {LMOD}
"""


def _write_module(name: str, folders: Folders) -> None:
    stem, _, version = name.partition("/")
    path = modulefiles(folders) / f"{name}.lua"
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [f"whatis([[{name}, pretended]])"]
    if stem == "python":
        lines.append(f'prepend_path("PATH", "{folders.state}/python/bin")')
        lines.append(f'setenv("EBVERSIONPYTHON", [[{version}]])')
    if stem == "gcc":
        lines.append('family("compiler")')
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _write_interpreter(shape: ClusterShape, folders: Folders) -> None:
    """Write what the module ``python`` puts into PATH: an interpreter without packages, and ``virtualenv`` for it."""
    interpreter = shape.python or base_interpreter()
    place = folders.state / "python" / "bin"
    place.mkdir(parents=True, exist_ok=True)
    major, minor = sys.version_info[:2]
    for name in ("python", f"python{major}", f"python{major}.{minor}"):
        # A link would hide the environment that an interpreter belongs to.
        _write_script(place / name, f'#!/bin/sh\nexec "{interpreter}" "$@"\n')
    if program := shutil.which("virtualenv", path="/usr/local/bin:/usr/bin"):
        _write_script(place / "virtualenv", f'#!/bin/sh\nexec {program} -p "{interpreter}" "$@"\n')


def base_interpreter() -> Path:
    """Return the interpreter that the environment of this process was made from."""
    return Path(getattr(sys, "_base_executable", sys.executable)).resolve()
