"""Quad mesh → its Catmull-Clark refinement as a sparse matrix on the vertices."""

import numpy as np
from scipy import sparse

from fixtalk.shapes import Float, Int


def catmull_clark(
    num_vertices: int, quads: Int[np.ndarray, "quads 4"]
) -> tuple[sparse.csr_matrix, Int[np.ndarray, "refined 4"]]:
    """Matrix (refined vertices × vertices) and the refined quads, four for each old one.

    The first `num_vertices` refined vertices are the old ones, moved. Open edges follow the
    boundary rule (half of the vertex, half of the middles of its open edges).

    Source: Catmull and Clark 1978, with the usual boundary rule.
    """
    count = len(quads)
    ends = np.sort(np.stack([quads, np.roll(quads, -1, axis=1)], axis=2).reshape(-1, 2), axis=1)
    edges, edge_of = np.unique(ends, axis=0, return_inverse=True)
    edge_of = edge_of.reshape(count, 4)
    faces = np.repeat(np.arange(count), 4)
    num_edges = len(edges)

    def incidence(
        rows: np.ndarray, columns: np.ndarray, shape: tuple[int, int]
    ) -> sparse.csr_matrix:
        matrix = sparse.csr_matrix((np.ones(len(rows)), (rows, columns)), shape=shape)
        matrix.data[:] = 1
        return matrix

    face_points = incidence(faces, quads.ravel(), (count, num_vertices)) * 0.25
    edge_faces = incidence(edge_of.ravel(), faces, (num_edges, count))
    edge_ends = incidence(
        np.repeat(np.arange(num_edges), 2), edges.ravel(), (num_edges, num_vertices)
    )
    middles = edge_ends * 0.5
    is_open = (np.bincount(edge_of.ravel(), minlength=num_edges) == 1).astype(float)
    edge_points = (
        sparse.diags(0.5 + 0.5 * is_open) @ middles
        + sparse.diags(0.25 * (1 - is_open)) @ edge_faces @ face_points
    )
    vertex_edges = edge_ends.T.tocsr()
    vertex_faces = incidence(quads.ravel(), faces, (num_vertices, count))
    valence = np.maximum(np.asarray(vertex_edges.sum(1)).ravel(), 1)
    num_faces = np.maximum(np.asarray(vertex_faces.sum(1)).ravel(), 1)
    inner = (
        sparse.diags(1 / (valence * num_faces)) @ vertex_faces @ face_points
        + sparse.diags(2 / valence**2) @ vertex_edges @ middles
        + sparse.diags((valence - 3) / valence)
    )
    open_edges = vertex_edges @ sparse.diags(is_open)
    num_open = np.asarray(open_edges.sum(1)).ravel()
    border = sparse.diags(np.full(num_vertices, 0.5)) + (
        sparse.diags(0.5 / np.maximum(num_open, 1)) @ open_edges @ middles
    )
    on_border = (num_open > 0).astype(float)
    vertex_points = sparse.diags(1 - on_border) @ inner + sparse.diags(on_border) @ border
    matrix = sparse.vstack([vertex_points, face_points, edge_points]).tocsr()
    centre = np.arange(count) + num_vertices
    edge_index = edge_of + num_vertices + count
    corners = [
        np.stack([quads[:, i], edge_index[:, i], centre, edge_index[:, i - 1]], axis=1)
        for i in range(4)
    ]
    return matrix, np.stack(corners, axis=1).reshape(-1, 4)


def refine_texcoords(
    texcoords: Float[np.ndarray, "quads 4 2"],
) -> Float[np.ndarray, "refined 4 2"]:
    """Texture coordinates of the refined quads, in the order of `catmull_clark`."""
    centre = texcoords.mean(1)
    middle = (texcoords + np.roll(texcoords, -1, axis=1)) / 2
    corners = [
        np.stack([texcoords[:, i], middle[:, i], centre, middle[:, i - 1]], axis=1)
        for i in range(4)
    ]
    return np.stack(corners, axis=1).reshape(-1, 4, 2)
