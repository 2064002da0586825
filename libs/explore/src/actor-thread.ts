// A thread that plays one actor (every one but the first, which the coordinator plays itself): it loads the litmus test, waits to
// be called, and plays its part of schedule after schedule.
import { parentPort, receiveMessageOnPort, workerData } from 'node:worker_threads';
import { Control, runState, word } from './control.ts';
import { loadLitmus } from './load-litmus.ts';
import { Part, type PartSpec } from './part.ts';
import type { ActorThreadData } from './troupe.ts';

const { path, index, control: buffer, port } = workerData as ActorThreadData; // as Troupe starts it
const test = await loadLitmus(path);
const control = new Control(buffer);
const go = control.actor(index);

function waitForCall(): void {
  while (Atomics.exchange(control.words, go, 0) === 0) Atomics.wait(control.words, go, 0);
}

parentPort?.postMessage('ready');
let part: Part | null = null;
for (;;) {
  if (part === null) waitForCall();
  else part.awaitTurn();
  const state = Atomics.load(control.words, word.run);
  if (state === runState.attach) {
    const sent = receiveMessageOnPort(port)?.message as PartSpec | undefined; // sent before the call
    part = sent === undefined ? null : new Part(test, sent, control, index);
    Atomics.add(control.words, word.live, 1);
    Atomics.notify(control.words, word.live);
    if (sent === undefined) break;
  } else if (state === runState.running && part !== null && control.get(word.current) === index) part.play();
}
