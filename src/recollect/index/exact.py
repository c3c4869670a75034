"""tmp brute force"""

import numpy as np

from recollect.index.scoring import row_norms


class ExactIndex:
    def __init__(self, dim, metric="cosine", *, metric_weights=None):
        self.dim, self.metric, self.w = dim, metric, metric_weights
        self.ids = np.zeros(0, np.int64)
        self.keys = np.zeros((0, dim))

    def add(self, ids, keys, *, norms=None):
        self.ids = np.concatenate([self.ids, ids])
        self.keys = np.concatenate([self.keys, keys.astype(float)])

    attach = add

    def remove(self, ids):
        m = ~np.isin(self.ids, ids)
        self.ids = self.ids[m]
        self.keys = self.keys[m]

    def __len__(self):
        return len(self.ids)

    def search(self, q, k, *, allowed=None, exclude=None):
        I = np.full((len(q), k), -1, np.int64)
        S = np.full((len(q), k), -np.inf, np.float32)
        for i, x in enumerate(q.astype(float)):
            m = np.ones(len(self.ids), bool)
            if allowed is not None:
                m &= np.isin(self.ids, allowed)
            if exclude is not None:
                m &= ~np.isin(self.ids, exclude[i])
            K = self.keys[m]
            ids = self.ids[m]
            if self.metric == "cosine":
                s = (K * x).sum(1) / row_norms(K) / np.sqrt((x * x).sum())
            elif self.metric == "dot":
                s = (K * x).sum(1)
            elif self.metric == "euclidean":
                s = -np.sqrt(((K - x) ** 2).sum(1))
            else:
                s = -(np.abs(K - x) * (1 if self.w is None else self.w)).sum(1)
            s = s.astype(np.float32)
            o = np.lexsort((ids, -s))[:k]
            I[i, : len(o)] = ids[o]
            S[i, : len(o)] = s[o]
        return I, S
