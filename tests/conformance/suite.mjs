// Runs the suite's client against the proxy at the URL given, and prints one JSON object for each of its cases.
//
// A copy stands beside the installed package, which is found by name from there.

import fetch from 'node-fetch'
import { getResults, runTests } from 'http-cache-tests/client/runner.mjs'
import groups from 'http-cache-tests/tests/index.mjs'

// The suite waits for ever. What a proxy never answers shall fail its own case alone.
const PATIENCE = 20_000

const base = process.argv[2]
await runTests(groups, (url, init) => fetch(url, { ...init, timeout: PATIENCE }), false, base)
const results = getResults()

const cases = groups.flatMap(group => group.tests).filter(test => !test.browser_only)
for (const { id, kind = 'required', name, depends_on: needs = [] } of cases) {
  const result = results[id]
  const said = Array.isArray(result) ? result.join(': ') : ''
  console.log(JSON.stringify({ id, kind, name, needs, passed: result === true, said }))
}
