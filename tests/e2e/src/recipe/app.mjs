// The application that the recipe for Node serves in the tests.

import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';

// The service runs in its release's directory, releases/<name>.
const SHARED = '../../shared';
const RELEASE = readFileSync('release.txt', 'utf8').trim();

if (RELEASE === 'v3') throw new Error('the settings of v3 name a database that is not there');

export default async function app(request, response) {
  if (request.url === '/long') {
    // An export that takes as long as the test wants.
    writeFileSync(`${SHARED}/long-has-begun`, '');
    while (!existsSync(`${SHARED}/long-may-end`)) await sleep(20);
  }
  response.writeHead(200, { 'Content-Type': 'text/plain', 'Content-Length': 3, 'X-Release': RELEASE });
  response.end('ok\n');
}
