// What ends a host's processes when the launcher cannot: a small shell that reads from a pipe which the launcher holds open. At
// end of file, however the launcher died, it kills the process groups it was told of and removes the paths it was given.
// It knows nothing of what the processes are.
import { type ChildProcess, spawn } from 'node:child_process';

// $@ = paths to remove. Process numbers are those of group leaders.
const REAP = `trap '' INT TERM HUP
pids=' '
while read -r verb arg; do
  case $verb in
    add) pids="$pids$arg " ;;
    drop) rest=' '; for p in $pids; do [ "$p" = "$arg" ] || rest="$rest$p "; done; pids=$rest ;;
    done) exit 0 ;;
  esac
done
for p in $pids; do kill -KILL "-$p" 2>/dev/null; done
rm -rf -- "$@"`;

export class Reaper {
  readonly #shell: ChildProcess;

  /** `paths` are removed only if the launcher dies. */
  constructor(paths: readonly string[]) {
    this.#shell = spawn('/bin/sh', ['-c', REAP, 'reaper', ...paths], {
      stdio: ['pipe', 'ignore', 'ignore'],
      detached: true,
    });
    this.#shell.on('error', () => {}); // without a shell nothing reaps; the launcher still ends what it started
    this.#shell.stdin?.on('error', () => {});
    this.#shell.unref();
  }

  watch(pid: number): void {
    this.#tell(`add ${pid}`);
  }

  forget(pid: number): void {
    this.#tell(`drop ${pid}`);
  }

  /** Everything has ended in good order. */
  dismiss(): void {
    this.#shell.stdin?.end('done\n');
  }

  #tell(line: string): void {
    this.#shell.stdin?.write(`${line}\n`);
  }
}
