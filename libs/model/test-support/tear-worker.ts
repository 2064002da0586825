// Writes two whole entries in turn into one slot, as fast as it can, until told to stop.
import { workerData } from 'node:worker_threads';
import { store } from '#model/shared-memory/slots';

const { slots, stop, values } = workerData as {
  slots: SharedArrayBuffer;
  stop: SharedArrayBuffer;
  values: [number, number];
}; // written by the spec
const table = new Float64Array(slots);
const flag = new Int32Array(stop);
Atomics.store(flag, 1, 1);
Atomics.notify(flag, 1);
while (Atomics.load(flag, 0) === 0) {
  for (let i = 0; i < 1000; i++) {
    store(table, 3, values[0]);
    store(table, 3, values[1]);
  }
}
