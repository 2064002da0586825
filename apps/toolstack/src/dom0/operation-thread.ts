// A thread that runs the toolstack's operations, one at a time: the model's synchronous generators over a blocking port. What an
// operation pauses for is done by the main thread. No Redis and no Nest in here.
import { parentPort, workerData } from 'node:worker_threads';
import { installSeam } from '#model/shared-memory/step';
import type { Operation, PauseResult, ToolstackPorts, Xenstore } from '#model/toolstack/ports';
import { PortHypercalls, SyncPort, SyncPortError } from '#wire/sync-port-thread';
import {
  type FromOperationThread,
  type HostFacts,
  type OperationThreadData,
  service,
  type ToOperationThread,
} from './operation-messages.ts';
import { runOperation } from './operations.ts';

const { end }: OperationThreadData = workerData; // from operation-threads.ts of this process
const port = new SyncPort(end);

const xenstore: Xenstore = {
  // Each service answers what its name says: operation-threads.ts.
  read: (domid, path) => port.request({ ask: service.xsRead, args: [domid, path] }) as string | null,
  write: (domid, path, value) => void port.request({ ask: service.xsWrite, args: [domid, path, value] }),
  remove: (domid, path) => void port.request({ ask: service.xsRemove, args: [domid, path] }),
  list: (domid, path) => port.request({ ask: service.xsList, args: [domid, path] }) as string[],
  removeDomain: (domid) => void port.request({ ask: service.xsRemoveDomain, args: [domid] }),
};

function portsOf(facts: HostFacts): ToolstackPorts {
  return { port: new PortHypercalls(port), xenstore, ...facts };
}

/** Runs a generator to its end; what it yields is done elsewhere while this thread waits. */
function drive<R>(operation: Operation<R>): R {
  let step = operation.next();
  while (!step.done) {
    step = operation.next(port.request({ ask: service.pause, args: [step.value] }) as PauseResult); // as above
  }
  return step.value;
}

function answer({ name, args, facts }: ToOperationThread): FromOperationThread {
  try {
    return { ok: true, result: runOperation(name, portsOf(facts), args, drive) };
  } catch (error) {
    if (!(error instanceof Error)) throw error;
    const code = error instanceof SyncPortError ? error.code : error.name;
    return {
      ok: false,
      error: { code, message: error instanceof SyncPortError ? error.message : (error.stack ?? '') },
    };
  }
}

installSeam({ nowNs: () => performance.now() * 1e6 });
parentPort?.on('message', (request: ToOperationThread) => parentPort?.postMessage(answer(request)));
