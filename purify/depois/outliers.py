"""What a user would try before De-Pois: finders of poisoned samples from scikit-learn, and the loss of a
classifier. METHODS names them, build makes one.

All see the hidden layer (N, 128) of one classifier trained on the trusted images, or its logits. Wrong labels
stand out there far more than among pixels; what the classifier has learnt to ignore, noise for example, they
hardly see. Each judges an image together with its label: most poisons are ordinary images under a wrong
label, which a model of images alone cannot see, so the two outlier models are fitted once for each class and
an image meets the model of the label that it carries. scikit-learn is imported where a model is fitted: the
command lists the METHODS, and need not wait for it.
"""

import numpy as np
import torch

from common import seeds
from common.cli import UserError
from faces.labelled import Labelled
from models.depois import classifier
from models.depois.classifier import Classifier
from models.depois.data import size_text


class Finder:
    """A baseline fitted on trusted images.

    Args:   trusted  models.depois.data.Labelled, clean;  network  models.depois.classifier.Classifier trained
                     on it, gradients off
            seed     equal arguments give equal scores
    """

    params = {}  # JSON types, for records

    def __init__(self, trusted: Labelled, network: Classifier, seed: int, device: torch.device | str = "cpu"):
        self.network, self.device = network, device
        self.shape, self.classes = trusted.shape, trusted.classes
        self.known = np.unique(trusted.labels.numpy())
        self._fit(trusted, seed)

    def scores(self, labelled: Labelled) -> np.ndarray:
        """How clean each image looks under its label, higher = cleaner.

        Shape:  Labelled of N images -> (N,) float64, finite
        Raises: UserError where images are of another size than the trusted ones, the classes others, or a
                label has no trusted image
        """
        if labelled.shape != self.shape:
            raise UserError(
                f"images to examine are {size_text(labelled.shape)}, the trusted ones"
                f" {size_text(self.shape)}; expected one size"
            )
        if labelled.classes != self.classes:
            raise UserError(
                f"images to examine have the classes {', '.join(labelled.classes)}, the trusted ones"
                f" {', '.join(self.classes)}; expected the same"
            )
        unknown = sorted(set(labelled.labels.tolist()) - set(self.known.tolist()))
        if unknown:
            raise UserError(
                f"no trusted image of class {self.classes[unknown[0]]}, which images to examine have; trust"
                " one at least of each class"
            )
        return np.asarray(self._scores(labelled), dtype=np.float64)

    def _features(self, labelled):
        return classifier.in_batches(lambda x, y: self.network.features(x), labelled, self.device).numpy()


class PerClass(Finder):
    """One outlier model for each label, fitted on the trusted images that carry it."""

    def _fit(self, trusted, seed):
        features, labels = self._prepared(trusted), trusted.labels.numpy()
        self.models = {
            k: self._model(
                features[labels == k], seeds.derive(seed, type(self).__name__, self.classes[k]) % 2**32
            )
            for k in self.known
        }

    def _scores(self, labelled):
        features, labels = self._prepared(labelled), labelled.labels.numpy()
        scores = np.empty(len(labels))
        for k in np.unique(labels):
            scores[labels == k] = self._judge(self.models[k], features[labels == k])
        return scores

    def _prepared(self, labelled):
        return self._features(labelled)


class Forest(PerClass):
    """Isolation forest: the score is minus the anomaly score, in [-1, 0].

    Source: Liu, Ting, Zhou 2008 (Isolation Forest)
    """

    params = {"trees": 100, "samples_per_tree": 256}

    def _model(self, features, seed):
        from sklearn.ensemble import IsolationForest

        rows = min(self.params["samples_per_tree"], len(features))
        return IsolationForest(n_estimators=self.params["trees"], max_samples=rows, random_state=seed).fit(
            features
        )

    def _judge(self, model, features):
        return model.score_samples(features)


class PixelForest(Forest):
    """Isolation forest on the pixels themselves: what a classifier has learned to overlook (noise) is still
    there."""

    def _prepared(self, labelled):
        return labelled.floats().flatten(1).numpy()


class Svm(PerClass):
    """One-class SVM: the distance to the boundary around a class, negative outside, as a share of the sum of
    its weights.

    libsvm's weights add up to nu times the number of rows, so that the distances of a large class would
    exceed those of a small one. Features are standardised by all trusted images: by those of one class alone,
    a feature that hardly varies in it makes a kernel of 0 for every image of another class. Time grows with
    the square of a class, hence the cap, a seeded draw.

    Source: Schoelkopf et al. 2001 (Estimating the support of a high-dimensional distribution)
    """

    params = {"kernel": "rbf", "gamma": "scale", "nu": 0.1, "rows_per_class": 2000}

    def _fit(self, trusted, seed):
        from sklearn.preprocessing import StandardScaler

        self.scaler = StandardScaler().fit(self._features(trusted))
        super()._fit(trusted, seed)

    def _prepared(self, labelled):
        return self.scaler.transform(self._features(labelled))

    def _model(self, features, seed):
        from sklearn.svm import OneClassSVM

        # the solver minds the order
        rows = np.sort(
            np.random.default_rng(seed).permutation(len(features))[: self.params["rows_per_class"]]
        )
        return OneClassSVM(
            kernel=self.params["kernel"], gamma=self.params["gamma"], nu=self.params["nu"]
        ).fit(features[rows])

    def _judge(self, model, features):
        return model.decision_function(features) / model.dual_coef_.sum()


class Neighbours(Finder):
    """Share of the k nearest trusted images that carry the sample's label, each weighted by 1 / distance, in
    [0, 1].

    Many clean samples have neighbours of their own class alone and share the score 1: a quantile boundary
    then flags less than its nominal rate.

    Source: Peri et al. 2020, arXiv:1909.13374 (Deep k-NN), whose vote is here weighted and taken among
            trusted images
    """

    params = {"k": 10, "weights": "distance", "metric": "euclidean"}

    def _fit(self, trusted, seed):
        from sklearn.neighbors import KNeighborsClassifier

        self.model = KNeighborsClassifier(
            min(self.params["k"], len(trusted)),
            weights=self.params["weights"],
            algorithm="brute",
            metric=self.params["metric"],
        ).fit(self._features(trusted), trusted.labels.numpy())

    def _scores(self, labelled):
        # of classes that have trusted images
        columns = np.searchsorted(self.known, labelled.labels.numpy())
        return self.model.predict_proba(self._features(labelled))[np.arange(len(labelled)), columns]


class Loss(Finder):
    """Minus the cross entropy of the sample's label under the classifier, in nats.

    Source: the small-loss rule, Han et al. 2018, arXiv:1804.06872
    """

    def _fit(self, trusted, seed):
        """Nothing beyond the classifier."""

    def _scores(self, labelled):
        # in float32, sure samples all tie at 0
        logits = classifier.in_batches(lambda x, y: self.network(x), labelled, self.device).double()
        return torch.log_softmax(logits, 1)[torch.arange(len(labelled)), labelled.labels].numpy()


METHODS = {
    "isolation-forest": Forest,
    "isolation-forest-pixels": PixelForest,
    "one-class-svm": Svm,
    "knn-labels": Neighbours,
    "loss": Loss,
}


def build(
    name: str,
    trusted: Labelled,
    seed: int,
    device: torch.device | str = "cpu",
    network: classifier.Classifier | None = None,
) -> Finder:
    """A baseline fitted on trusted images.

    Args:    name     of METHODS;  trusted  models.depois.data.Labelled, clean
             network  the classifier that models.depois.classifier.fit made of (trusted, seed), which all
                      baselines can share; None: it is trained here
    Returns: Finder with .params (JSON types), .network, and .scores(labelled) -> (N,) float64, higher =
             cleaner
    Raises:  KeyError for another name
    """
    method = METHODS[name]
    if network is None:
        network = classifier.fit(trusted, seed, device=device)
    return method(trusted, network, seed, device)
