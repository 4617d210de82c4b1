// Lines of JSON on stdin, {id, op, args}, answered on stdout in any order, {id, value} or {id, error}.

import { createInterface } from 'node:readline';

export function serve(call) {
  const lines = createInterface({ input: process.stdin });
  lines.on('line', async (line) => {
    const { id, op, args } = JSON.parse(line);
    let answer;
    try {
      answer = { id, value: (await call(op, args)) ?? null };
    } catch (error) {
      answer = { id, error: String(error?.message ?? error) };
    }
    process.stdout.write(`${JSON.stringify(answer)}\n`);
  });
  return new Promise((resolve) => { lines.on('close', resolve); });
}
