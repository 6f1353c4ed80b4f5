"""Hookmirror and other mirrors of Stripe's catalog, set up as their docs say, on the same signed webhooks."""
