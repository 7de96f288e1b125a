// LaunchDarkly's browser SDK, in the words of `browser.mjs`.

import { createClient } from '@launchdarkly/js-client-sdk';

let client;

window.sdk = {
  async start({ url, token, context, dataSystem }) {
    const uris = { baseUri: url, streamUri: url, eventsUri: url };
    const options = { ...uris, withReasons: true, streaming: true, sendEvents: false, diagnosticOptOut: true };
    client = createClient(token, context, dataSystem ? { ...options, dataSystem: {} } : options);
    const { status } = await client.start({ timeout: 20 });
    if (status !== 'complete') throw new Error(`start ended as ${status}`);
  },
  identify: (context) => client.identify(context),
  detail(key, otherwise) {
    const { value, reason } = client.variationDetail(key, otherwise);
    return { value, reason: reason?.errorKind ?? reason?.kind, ruleIndex: reason?.ruleIndex ?? null };
  },
};
